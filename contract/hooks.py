"""What schemathesis need not try."""

from datetime import date, timedelta

import schemathesis
from schemathesis import BaseSchema, Case, HookContext


@schemathesis.hook("filter_case")
def body_is_text(_: HookContext, case: Case) -> bool:
    """API Gateway hands on text, whatever was sent; `cargo lambda watch` answers other bytes with its own 500."""
    if isinstance(case.body, bytes):
        try:
            case.body.decode()
        except UnicodeDecodeError:
            return False
    return True


@schemathesis.hook("filter_case").apply_to(operation_id="status")
def status_is_in_the_calendar(_: HookContext, case: Case) -> bool:
    """A schema cannot say that February has no 30th, nor that a pause must end before the year 10000."""
    if case.meta.generation.mode.is_negative:
        return True
    days = case.body.get("interval") if case.body["status_id"] == 3 else None
    try:
        begin = date.fromisoformat(case.body["effect_date"][:10]) if case.body.get("effect_date") else date.today()
        # One more, as the offset may move it.
        begin + timedelta(days=int(days or 0) + 1)
    except (ValueError, OverflowError):
        return False
    return True


@schemathesis.hook
def after_load_schema(_: HookContext, schema: BaseSchema) -> None:
    """Histories may begin with subscribing: its club and customer come from no route, but from the configuration."""
    schema.analysis.dependency_graph.operations["POST /club/{id}/subscribe"].inputs.clear()
