"""The jobs of a sweep: what each does, what it prints, reports and leaves."""
