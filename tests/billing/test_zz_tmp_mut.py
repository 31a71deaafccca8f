import re
from pathlib import Path
import psycopg, pytest
from tests.billing.test_ledger_machine import LedgerMachine
ROOT = Path("core/billing")
MUT = [
 ("ledger.sql","spend_lots","    if not prepaid then","    if false then"),
 ("corrections.sql","reinstate_lot","paid := least(a.debt_nusd, returned);","paid := 0;"),
 ("corrections.sql","expire_lots","+ a.receivable_nusd - a.held_nusd","+ a.receivable_nusd"),
 ("holds.sql","reserve"," and not frozen",""),
 ("corrections.sql","refill_lots","paid := least(rest, a.debt_nusd);","paid := 0;"),
 ("corrections.sql","revoke_lot","debt_nusd + p_amount - take","debt_nusd"),
 ("corrections.sql","receive_payment","if known is not null then return known; end if;",""),
 ("ledger.sql","grant_lot","l.source_id = p_source_id;","l.source_id = p_source_id and false;"),
 ("corrections.sql","unsettle","if s.kind = 'payment' then","if s.kind = 'none' then"),
 ("holds.sql","capture","    perform spend_lots(p_tenant, a.seq, p_amount);","    null;"),
]
def source(file, name):
    s=(ROOT/file).read_text()
    m=re.search(r"create function "+name+r"\(.*?\nend \$\$;", s, re.S)
    return m.group(0).replace("create function","create or replace function",1)
@pytest.mark.parametrize("m", MUT, ids=lambda m: m[1])
def test_mut(m, database, database_url):
    file,name,a,b=m
    src=source(file,name); assert a in src
    def put(q):
        with psycopg.connect(database_url, autocommit=True) as c:
            c.execute("set role app_owner"); c.execute("set search_path=verbs,app"); c.execute(q)
    put(src.replace(a,b))
    try:
        from hypothesis.stateful import run_state_machine_as_test
        from hypothesis import settings, HealthCheck, Phase
        with pytest.raises(BaseException):
            run_state_machine_as_test(LedgerMachine, settings=settings(max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate], database=None))
    finally:
        put(src)
