"""What people look at: a Markdown table for model cards, and one page that needs nothing else."""

from luhuo.evaluation.task_report.write import write_reports

__all__ = ["write_reports"]
