"""A secret in AWS Secrets Manager."""

from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from consumer.errors import Misconfigured, Problem, Unavailable

# "Errors" of GetSecretValue in its API reference: those that no retry heals.
_WRONG: Final = {
    "ResourceNotFoundException": "no such secret",
    "InvalidRequestException": "a secret without a value, or to be deleted",
    "AccessDeniedException": "no permission",
    "DecryptionFailure": "no permission for its KMS key",
}


class StoredSecret:
    """The text of the secret *name* (or ARN), of the version labelled AWSCURRENT."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._name = name

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        return f"secret {self._name}"

    def read(self) -> bytes:
        """
        Return its text.

        Raises Misconfigured where it is missing, without a text or forbidden, and Unavailable.
        """
        try:
            answer = self._client.get_secret_value(SecretId=self._name)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "unknown")
            if code in _WRONG:
                raise self._refused(_WRONG[code]) from error
            raise Unavailable("secretsmanager", f"{error.operation_name}: {code}") from error
        except BotoCoreError as error:
            raise Unavailable("secretsmanager", type(error).__name__) from error
        text = answer.get("SecretString")
        if not isinstance(text, str):
            raise self._refused("a binary value")
        return text.encode()

    def _refused(self, found: str) -> Misconfigured:
        expected = "a text that secretsmanager:GetSecretValue may read"
        return Misconfigured([Problem(self.place, "the secret", found, expected)])
