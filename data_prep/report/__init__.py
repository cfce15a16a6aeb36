"""What a preparation did, as a page: `report.html`. The look is shared with the reports of training."""
