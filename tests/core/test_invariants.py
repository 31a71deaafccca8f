from __future__ import annotations
from core import db, invariants
from core.db import System
def test_clean(database):
    with db.transaction(System("check")) as session:
        print(list(invariants.queries()))
        print(invariants.check(session))
        assert invariants.check(session) == []
