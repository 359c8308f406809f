"""Access to files without Java, on the file systems that Spark uses: ``file:``, ``hdfs:``, ``s3:``, ``dbfs:``.

Horovod's processes and the server have no JVM, so they cannot use :class:`preprocessing.storage.Storage`.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.arrow import ArrowFSWrapper
from pyarrow.filesystem import FileSystem as LegacyFileSystem

from preprocessing.errors import InputError

SCHEMES = ("dbfs", "file", "hdfs", "s3", "s3a", "viewfs")
S3_SCHEMES = ("s3", "s3a")
# fsspec reads the arguments of S3FileSystem from this environment variable, in every process that inherits it.
S3_VARIABLE = "FSSPEC_S3"

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/")


class S3FileSystem(ArrowFSWrapper):  # type: ignore[misc]
    """S3 with AWS's own client, which finds credentials in the environment, the profile or the instance's role.

    Args:
        arguments: arguments of :class:`pyarrow.fs.S3FileSystem`, for a service other than AWS's.
    """

    protocol = S3_SCHEMES

    def __init__(self, **arguments: Any) -> None:
        from pyarrow import fs  # takes a tenth of a second

        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        if endpoint and "endpoint_override" not in arguments:  # the variables of AWS's other clients
            arguments["scheme"], _, arguments["endpoint_override"] = endpoint.rstrip("/").rpartition("://")

        fsspec_arguments = {name: arguments.pop(name) for name in ("skip_instance_cache",) if name in arguments}
        super().__init__(fs=fs.S3FileSystem(**arguments), **fsspec_arguments)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return re.sub("^s3a?://", "", path).rstrip("/")

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Do nothing: S3 has no folders, and pyarrow would create an object in place of one."""


for _scheme in S3_SCHEMES:
    fsspec.register_implementation(_scheme, S3FileSystem, clobber=True)


def is_url(path: str) -> bool:
    """Whether a path has a scheme."""
    return _URL.match(path) is not None


def scheme_of(url: str) -> str:
    """The scheme of a URL; that of a path is ``file``."""
    match = _URL.match(url)
    return match[1].lower() if match else "file"


def is_object_store(url: str) -> bool:
    """Whether files appear as a whole when they are closed, and cannot be renamed without being copied."""
    return scheme_of(url) in S3_SCHEMES


def local_path(url: str) -> Path:
    """The local path of a ``file:`` URL, which is not percent-encoded, or of a ``dbfs:`` URL on Databricks.

    Databricks mounts the root of DBFS as ``/dbfs``, and volumes of Unity Catalog as ``/Volumes``.
    """
    scheme, path = scheme_of(url), "/" + re.sub("^[A-Za-z]+:", "", url).lstrip("/")
    return Path(f"/dbfs{path}" if scheme == "dbfs" and not path.startswith("/Volumes/") else path)


def open_url(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URL and the path in it.

    Raises:
        InputError: the scheme of the URL is not one of ``SCHEMES``.
    """
    scheme = scheme_of(url)
    if scheme not in SCHEMES:
        raise InputError(f"{url}: the scheme {scheme}: is not supported here: use one of {', '.join(SCHEMES)}")
    if scheme in ("file", "dbfs"):
        return fsspec.filesystem("file"), str(local_path(url))
    # not url_to_fs, which reads "::" as a chain of file systems
    file_system = fsspec.get_filesystem_class(scheme)
    return file_system(**file_system._get_kwargs_from_urls(url)), file_system._strip_protocol(url)


def configure_s3(settings: dict[str, str]) -> dict[str, str]:
    """Apply Hadoop's settings of S3A to this module, in this process and in those that it starts.

    Args:
        settings: values of ``fs.s3a.endpoint``, ``fs.s3a.endpoint.region``, ``fs.s3a.path.style.access`` and
            ``fs.s3a.connection.ssl.enabled``, those that are set.

    Returns:
        Environment variables for processes on other hosts.
    """
    arguments: dict[str, Any] = {}
    endpoint, region = settings.get("fs.s3a.endpoint"), settings.get("fs.s3a.endpoint.region")
    if region:
        arguments["region"] = region
    if endpoint and not endpoint.endswith("amazonaws.com"):
        scheme, _, host = endpoint.rpartition("://")
        uses_tls = settings.get("fs.s3a.connection.ssl.enabled", "true") == "true"
        arguments["endpoint_override"], arguments["scheme"] = host, scheme or ("https" if uses_tls else "http")
        if settings.get("fs.s3a.path.style.access", "false") != "true":
            arguments["force_virtual_addressing"] = True
    if not arguments:
        return {}
    fsspec.config.conf["s3"] = arguments
    variables = {S3_VARIABLE: json.dumps(arguments)}
    os.environ.update(variables)
    return variables


def create_object(url: str) -> bool | None:
    """Create an empty object in S3 by one conditional request, unless it exists.

    Returns:
        Whether it was created. None: the service does not know conditional requests.

    Raises:
        OSError: the object cannot be written.
    """
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    arguments = fsspec.config.conf.get("s3", {})
    host = arguments.get("endpoint_override")
    client = boto3.client(
        "s3",
        endpoint_url=f"{arguments.get('scheme', 'https')}://{host}" if host else None,
        region_name=arguments.get("region"),
    )
    bucket, _, key = S3FileSystem._strip_protocol(url).partition("/")
    try:
        client.put_object(Bucket=bucket, Key=key, Body=b"", IfNoneMatch="*")
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in ("PreconditionFailed", "ConditionalRequestConflict"):
            return False
        if code == "NotImplemented":
            return None
        raise OSError(f"{url}: {error}") from error
    except BotoCoreError as error:
        raise OSError(f"{url}: {error}") from error
    return True


class PyarrowFileSystem(LegacyFileSystem):  # type: ignore[misc]
    """An fsspec file system for pyarrow's legacy dataset, through which Petastorm 0.13 and Horovod 0.28 read.

    pyarrow 14 selects the legacy dataset for instances of this base class only.
    """

    pathsep = "/"

    def __init__(self, system: Any) -> None:
        self.system = system

    def _isfilestore(self) -> bool:
        return True

    def isdir(self, path: str) -> bool:
        return bool(self.system.isdir(path))

    def isfile(self, path: str) -> bool:
        return bool(self.system.isfile(path))

    def exists(self, path: str) -> bool:
        return bool(self.system.exists(path))

    def ls(self, path: str) -> list[str]:
        return list(self.system.ls(path, detail=False))

    def open(self, path: str, mode: str = "rb") -> Any:
        return self.system.open(path, mode)

    def walk(self, path: str) -> Iterator[tuple[str, list[str], list[str]]]:
        yield from self.system.walk(path)
