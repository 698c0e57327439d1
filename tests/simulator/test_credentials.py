import httpx

from tests.simulator.conftest import PATH, Behave, Script, patch, tag, truth


def token(server: httpx.Client, **more: str) -> dict[str, object]:
    form = {"grant_type": "client_credentials", "client_id": "erp", "client_secret": "s"} | more
    return server.post("/oauth/token", data=form).raise_for_status().json()


def bearer(value: object) -> dict[str, str]:
    return {"Authorization": f"Bearer {value}"}


def test_without_authentication_a_header_says_who_writes(server: httpx.Client) -> None:
    patch(server, {"owner": "a"}, tag(server), X_Simulated_User="mrossi")
    assert truth(server)["modifiedBy"] == "mrossi"


def test_basic_credentials_are_asked_for_and_name_the_writer(server: httpx.Client, behave: Behave) -> None:
    behave(auth="basic", users={"erp": "s"})
    refused = server.get(PATH)
    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, 'Basic realm="Windchill"')
    assert server.get(PATH, auth=("erp", "wrong")).status_code == 401
    known = server.get(PATH, auth=("erp", "s")).headers["ETag"]
    headers = {"If-Match": known, "Content-Type": "application/json"}
    assert server.patch(PATH, json={"owner": "a"}, headers=headers, auth=("erp", "s")).status_code == 200
    assert truth(server)["modifiedBy"] == "erp"


def test_a_missing_credential_outranks_a_stale_guard(server: httpx.Client, behave: Behave) -> None:
    behave(auth="basic")
    assert patch(server, {"owner": "a"}, '"stale"').status_code == 401


def test_fixed_bearer_tokens_name_the_writer(server: httpx.Client, behave: Behave) -> None:
    behave(auth="bearer", tokens={"t": "mes"})
    assert server.get(PATH).headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert patch(server, {"owner": "a"}, '"v1.1.1"', **bearer("t")).json()["modifiedBy"] == "mes"


def test_an_issued_token_works_until_it_expires(server: httpx.Client, behave: Behave) -> None:
    behave(auth="bearer", users={"erp": "s"})
    granted = token(server)
    assert (granted["token_type"], granted["expires_in"]) == ("Bearer", 3600)
    assert server.get(PATH, headers=bearer(granted["access_token"])).status_code == 200
    behave(auth="bearer", users={"erp": "s"}, token_lifetime_s=0)
    assert server.get(PATH, headers=bearer(token(server)["access_token"])).status_code == 401


def test_all_issued_tokens_can_be_voided(server: httpx.Client, behave: Behave) -> None:
    behave(auth="bearer", users={"erp": "s"})
    old = bearer(token(server)["access_token"])
    server.post("/_control/expire-tokens").raise_for_status()
    assert server.get(PATH, headers=old).status_code == 401
    assert server.get(PATH, headers=bearer(token(server)["access_token"])).status_code == 200


def test_an_unknown_client_gets_no_token(server: httpx.Client) -> None:
    form = {"grant_type": "client_credentials", "client_id": "nobody", "client_secret": "s"}
    assert server.post("/oauth/token", data=form).status_code == 401
    assert server.post("/oauth/token", data={"grant_type": "password"}).status_code == 400


def test_an_expired_token_fault_asks_for_a_new_one(server: httpx.Client, behave: Behave, script: Script) -> None:
    behave(auth="bearer", users={"erp": "s"})
    held = bearer(token(server)["access_token"])
    script("expired_token", method="GET")
    assert server.get(PATH, headers=held).status_code == 401
    assert server.get(PATH, headers=held).status_code == 401
    assert server.get(PATH, headers=bearer(token(server)["access_token"])).status_code == 200
