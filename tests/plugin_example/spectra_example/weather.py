"""A task: short sentences about the weather to learn the language of."""

from spectra.data import Task, TaskData, task_from_rows


def load() -> TaskData:
    """Three splits of rows, made here; a task may as well read them from anywhere."""

    def rows(first: int, last: int) -> list[dict[str, str]]:
        return [{"text": f"On day {day} there was {('rain', 'sunshine')[day % 2]}."} for day in range(first, last)]

    return task_from_rows("weather", "causal-lm", train=rows(0, 40), validation=rows(40, 60), test=rows(60, 80))


WEATHER = Task("weather", load, "sentences about rain and sunshine, made by rule")
