"""All of Fashion-MNIST, 60,000 and 10,000 images: downloaded once, or read from a folder."""

from pathlib import Path

from course_lib.data.images import ImageSet, read_folder

BASE_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
"""Download address from the README of Fashion-MNIST; the files' SHA-256 are checked."""

SHA256 = {
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
SIZE = "31 MB"

FOLDER_VARIABLE = "COURSE_LIB_DATA"
"""Environment variable that names a folder for downloads in place of the system's cache folder."""
RETRIES = 2
TIMEOUT = 30.0
"""Seconds without an answer after which a server counts as gone."""


def load_full_images(folder: str | Path | None = None) -> ImageSet:
    """Load the images of `folder`, or all of Fashion-MNIST, which is downloaded on first use.

    Raises:
        ValueError: the images are not available, or a file is damaged or of another kind.
    """
    if folder is not None:
        return read_folder(folder)
    return read_folder(fetch(), "Fashion-MNIST (full)")


def fetch() -> Path:
    """Download missing files with a progress bar, check all, and return their folder.

    A partial download leaves no file: a file gets its name after its SHA-256 was checked.

    Raises:
        ValueError: a file is not available after `RETRIES` more attempts.
    """
    from course_lib.extras import pooch  # imports requests, which is slow and needed for downloads only

    files = pooch.create(
        pooch.os_cache("course-lib"), BASE_URL, env=FOLDER_VARIABLE, registry=SHA256, retry_if_failed=RETRIES
    )
    downloader = pooch.HTTPDownloader(progressbar=True, timeout=TIMEOUT, chunk_size=2**16)
    for name in SHA256:
        try:
            files.fetch(name, downloader=downloader)
        except (OSError, ValueError) as error:  # requests raises OSErrors only
            raise ValueError(
                f"{files.get_url(name)}: {_reason(error)}: expected one of {len(SHA256)} files ({SIZE}) to "
                f"keep in {files.abspath}; try again later, a folder that has them, or the task "
                "'fashion-mnist', whose images are here already"
            ) from error
    return Path(files.abspath)


def _reason(error: Exception) -> str:
    """Say in a few words what went wrong; the exceptions' own messages are long."""
    from requests import exceptions

    if isinstance(error, exceptions.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    if isinstance(error, exceptions.Timeout) or "timed out" in str(error):  # a ConnectionError, in mid-file
        return f"no answer for {TIMEOUT:g} s"
    if isinstance(error, exceptions.ChunkedEncodingError):
        return "the connection broke off"
    if isinstance(error, exceptions.RequestException):
        return "no connection"
    if isinstance(error, OSError):  # the folder, not the network
        return error.strerror or str(error)
    return "the file that came has another SHA-256"
