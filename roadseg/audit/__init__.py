"""The audit of labelled road data: finds what ruins trainings before the first epoch. The names load on first use."""

from typing import TYPE_CHECKING

from roadseg.lazy import lazy_names

__all__ = ["CHECKS", "AuditReport", "audit", "audit_tree", "write_pictures"]

if TYPE_CHECKING:
    from roadseg.audit.auditing import audit
    from roadseg.audit.checks import CHECKS
    from roadseg.audit.pictures import write_pictures
    from roadseg.audit.report import AuditReport
    from roadseg.audit.tree import audit_tree

__getattr__ = lazy_names(
    "roadseg.audit",
    {
        "CHECKS": "roadseg.audit.checks",
        "AuditReport": "roadseg.audit.report",
        "audit": "roadseg.audit.auditing",
        "audit_tree": "roadseg.audit.tree",
        "write_pictures": "roadseg.audit.pictures",
    },
)
