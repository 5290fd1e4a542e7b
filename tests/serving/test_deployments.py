from flows.settings import Settings
from serving.deployments import names


def test_only_recorded_venues_have_standing_flows():
    without = names(Settings(streams={}))
    assert "refresh/refresh" in without
    assert not [name for name in without if name.startswith(("ingest", "live"))]
    both = names(Settings(streams={"okx": ["BTC-USDT"], "kraken": ["BTC-USD"]}))
    assert sorted(set(both) - set(without)) == ["ingest/kraken", "ingest/okx", "live/kraken", "live/okx"]
