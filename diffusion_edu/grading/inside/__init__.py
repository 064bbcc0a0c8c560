"""What runs beside a submission: a process that knows neither tests nor answers."""

__all__: list[str] = []
