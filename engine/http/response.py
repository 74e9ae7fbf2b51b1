"""Answers: made at once of a body and its headers."""

import flask


class Response(flask.Response):
    """Flask's response, with the few things that every request does to it."""

    @classmethod
    def of(cls, body: bytes, status: int, kind: str, etag: str | None = None) -> "Response":
        """An answer made at once of its body, status code, media type and ETag."""
        self = cls(body, status, content_type=kind)
        if etag is not None:
            self.headers["ETag"] = f'"{etag}"'
        return self

    def add(self, name: str, value: str) -> None:
        """Add a header that is not there yet and has no line break in it."""
        self.headers.add(name, value)

    def names(self) -> dict[str, str]:
        """Its headers by their names, as they were written."""
        return dict(self.headers)
