"""What can go wrong between arrays and a registered model.

ModelError
├── ShapeError             arrays that should agree in shape or order do not
├── TooLittleDataError     fewer rows than the work needs
├── InSampleError          scores are of rows that their model was trained on
├── UnsupportedModelError  the booster uses something the scorer does not walk
├── FeatureMismatchError   a model was trained on other features than it is offered
├── CostsMissingError      a Sharpe ratio was asked for without a cost
├── NoChampionError        the registry has no model under the alias
├── RegistryNotWritableError  the folder of the models cannot be written
└── BadArtifactError       a registered model lacks what scoring needs
"""

from pathlib import Path


class ModelError(Exception):
    """Any fault of learning, judging or loading a model."""


class ShapeError(ModelError, ValueError):
    """Arrays that should agree in shape or order do not."""

    def __init__(self, what: str, required: object, received: object) -> None:
        self.what, self.required, self.received = what, required, received
        super().__init__(f"{what} must be {required}, received {received}")


class TooLittleDataError(ModelError):
    """Fewer rows than the work needs."""

    def __init__(self, what: str, required: int, received: int) -> None:
        self.what, self.required, self.received = what, required, received
        super().__init__(f"{what} needs at least {required} rows, received {received}")


class InSampleError(ModelError):
    """Scores are of rows that their model was trained on, or of no fold that is known."""

    def __init__(self, fold: int, rows: int) -> None:
        self.fold, self.rows = fold, rows
        super().__init__(f"{rows} scores of fold {fold} are not out of sample: give those of rows that the fold tested")


class UnsupportedModelError(ModelError):
    """The booster uses something that the scorer does not walk."""

    def __init__(self, key: str, received: object) -> None:
        self.key, self.received = key, received
        super().__init__(f"cannot score a booster with {key} = {received}")


class FeatureMismatchError(ModelError):
    """A model was trained on other features than it is offered; names the first difference."""

    def __init__(self, position: int, expected: str | None, received: str | None) -> None:
        self.position, self.expected, self.received = position, expected, received
        super().__init__(f"feature {position} must be {expected!r}, received {received!r}")


class CostsMissingError(ModelError):
    """A Sharpe ratio was asked for without a cost."""

    def __init__(self, cost_bps: float | None) -> None:
        self.cost_bps = cost_bps
        super().__init__(f"a Sharpe ratio needs a cost above 0 bps a round trip, received {cost_bps}")


class FeatureSetError(ModelError):
    """A feature set that a model of single book updates cannot be trained on."""

    def __init__(self, name: str, trainable: tuple[str, ...]) -> None:
        self.name, self.trainable = name, trainable
        super().__init__(f"models are trained on the feature sets {', '.join(trainable)}; received {name!r}: choose one of them")


class NoChampionError(ModelError):
    """The registry has no model under the alias."""

    def __init__(self, name: str, alias: str) -> None:
        self.name, self.alias = name, alias
        super().__init__(f"no version of model {name!r} has the alias {alias!r}: train and promote one first")


class RegistryNotWritableError(ModelError):
    """The store of runs and models, or the part of it named by `path`, cannot be written."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"the store of models must be writable, but {path} is not: {reason}; change its owner or mode, or copy the lake")


class BadArtifactError(ModelError):
    """A registered model lacks what scoring needs."""

    def __init__(self, uri: str, missing: str) -> None:
        self.uri, self.missing = uri, missing
        super().__init__(f"{uri} has no {missing}")
