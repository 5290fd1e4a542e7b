import numpy as np

from models.fits import Fits
from models.garch import Garch
from models.microprice import Microprice

TABLE = np.array([[0.0, np.nan], [1 / 3, 0.1]])


def test_content_gives_every_number_back():
    fits = Fits(Microprice(0.1, TABLE), {1: Garch(1e-300, 0.1, 1 / 3), 3600: Garch(1e-9, 0.05, 0.9)}, "2026-01-01", "2026-01-14")
    again = Fits.of(fits.content)
    assert again.microprice.table.tobytes() == TABLE.tobytes()
    assert again.garch == fits.garch
    assert (again.id, again.first_day, again.last_day) == (fits.id, "2026-01-01", "2026-01-14")
    assert again == fits
    assert Fits.of(Fits().content) == Fits()


def test_the_id_is_that_of_the_numbers():
    one = Fits(Microprice(0.1, TABLE))
    names = {one.id, Fits(Microprice(0.2, TABLE)).id, Fits(garch={1: Garch(1.0, 0.1, 0.2)}).id, Fits(garch={60: Garch(1.0, 0.1, 0.2)}).id}
    assert len(names) == 4
    assert Fits(Microprice(0.1, TABLE.copy()), first_day="2026-01-01").id == one.id
    assert Fits().id == ""
