"""The example for shops in PHP, against an agent: it seals, opens and searches as guard does."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.leasing.counter import Counter

EXAMPLE = Path(__file__).parents[2] / "docs/example/shop.php"

pytestmark = pytest.mark.skipif(shutil.which("php") is None, reason="PHP is not installed (apt-get install php-cli)")


def php(counter: Counter, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["php", str(EXAMPLE), str(counter.app.agent_socket), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_php_seals_opens_and_searches(counter: Counter) -> None:
    done = php(counter, "customer.email", "5", "Zoë@example.org")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["opened"] == "Zoë@example.org"
    assert counter.app.fields.opener("customer.email")((5,), told["stored"]) == "Zoë@example.org"
    name, _, token = told["where"].partition(" = ")
    counter.write(
        f"INSERT INTO customer (id, email, {name}) VALUES (5, :p0, :p1)", told["stored"], bytes.fromhex(token[2:-1])
    )
    assert counter.stored(f"SELECT id FROM customer WHERE {told['where']}") == [(5,)]
    assert counter.app.fields.search("customer.email", "zoë@EXAMPLE.org").rows == ((5,),)


def test_php_is_told_what_it_may_not_have(counter: Counter) -> None:
    done = php(counter, "secret.text", "1", "x")
    assert done.returncode != 0
    assert "the service shop has no column secret.text" in done.stdout + done.stderr
