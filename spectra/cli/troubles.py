"""What a machine does to a command, in one sentence: no room, no permission, no memory."""

import errno

from spectra.errors import SpectraError, told

# What torch says, in a plain RuntimeError, when it gets no memory.
NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
REMEDIES = {
    errno.ENOSPC: "Make room, or write elsewhere.",
    errno.EDQUOT: "Make room, or write elsewhere.",
    errno.EFBIG: "Raise the limit on the size of files, or write elsewhere.",
    errno.EACCES: "Check its permissions, or name another place.",
    errno.EPERM: "Check its permissions, or name another place.",
    errno.EROFS: "Name a place that can be written to.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.EMFILE: "Raise the limit on open files.",
    errno.ENOENT: "Check the path.",
    errno.ENOTDIR: "Check the path.",
    errno.EISDIR: "Name a file.",
    errno.ENOMEM: "Free memory, or set --memory where the command has it.",
}


def sentence(error: BaseException) -> str | None:
    """The sentence for an error that is no bug; None for one that is, which keeps its traceback."""
    if isinstance(error, SpectraError):
        return str(error)
    if isinstance(error, RecursionError):
        return "An input is nested too deeply to be read. Check the files that the command was given."
    if isinstance(error, MemoryError) or _is_out_of_memory(error):
        return "The memory of this machine does not suffice. Free some, or set --memory where the command has it."
    if isinstance(error, OSError):
        paths = " to ".join(f"'{_text(path)}'" for path in (error.filename, error.filename2) if path is not None)
        reason = error.strerror or str(error).strip() or type(error).__name__
        where = f"{paths}: {reason}" if paths else reason
        return f"{told(where).rstrip('.')}. {REMEDIES.get(error.errno or 0, 'Check the place that is named.')}"
    return None


def _is_out_of_memory(error: BaseException) -> bool:
    # torch is not imported to look: whoever raised its error has done that.
    return isinstance(error, RuntimeError) and (
        type(error).__name__ == "OutOfMemoryError" or any(words in str(error) for words in NO_MEMORY)
    )


def _text(path: object) -> str:
    return path.decode(errors="replace") if isinstance(path, bytes) else str(path)
