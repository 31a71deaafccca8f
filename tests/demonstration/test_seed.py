from __future__ import annotations
import time
from datetime import UTC, datetime
from core import db, invariants, settings
from core.db import System
from core.demonstration import seed
from sqlalchemy import text
def test_clean(database):
    t=time.perf_counter()
    with db.transaction(System("x")) as session:
        assert seed.seed(session, settings.current(), datetime.now(UTC))
    print(time.perf_counter()-t)
    with db.transaction(System("x")) as session:
        assert not seed.seed(session, settings.current(), datetime.now(UTC))
    t=time.perf_counter()
    with db.transaction(System("check")) as session:
        print(invariants.check(session))
    print(time.perf_counter()-t)
    with db.transaction(System("check")) as session:
        for r in session.execute(text("select t.name, count(*), sum(billed_nusd)/1e9, a.posted_nusd/1e9, a.receivable_nusd/1e9 from app.usage_events join app.tenants t using(tenant_id) join app.accounts a using (tenant_id) group by 1,4,5")): print(r)
        for r in session.execute(text("select scope, period, messages, tokens, spent_nusd/1e9 from app.counters where scope<>'user'")): print(r)
        assert invariants.check(session) == []
