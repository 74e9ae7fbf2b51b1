"""Authentication, the throttle of guesses, the audit trail."""
