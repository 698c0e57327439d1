"""The probe against SAP's CAP: what a server that no one here wrote is found to do, and that it is left as it was."""

from reconciler.adapters.clock import SystemClock
from reconciler.adapters.wrs.probe import Means, Probe
from reconciler.adapters.wrs.probe_findings import Finding, Result
from tests.odata.adapter import adapter
from tests.odata.cap import Cap
from tests.odata.people import Person


async def test_its_etags_are_proved_to_guard(server: Cap, user: Person) -> None:
    document = user.make(Title="Pump", Description="For water", State="INWORK")
    findings: list[Finding] = []
    windchill = adapter(server.url, lock="checkout", etag_proven=False)
    means = Means(windchill, None, None, SystemClock(), "auto", findings.append, lambda intentions: None)
    try:
        await Probe(means, document["Number"]).run()
    finally:
        await windchill.close()
    assert [finding for finding in findings if finding.result is Result.FAILED] == []
    settings = {name: value for finding in findings for name, value in finding.setting.items()}
    assert (settings["windchill.lock"], settings["windchill.etag_proven"]) == ("etag", True)
    assert settings["windchill.time_filters"] == "time"
    ours = {"LastModified", "ModifiedBy", "@odata.etag"}
    now = user.read(document)
    assert {name: now[name] for name in now.keys() - ours} == {name: document[name] for name in now.keys() - ours}
