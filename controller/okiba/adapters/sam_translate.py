"""The one place that calls AWS's own SAM translator: it merges Globals, checks, and writes policies out.

It runs offline. It wants to see code in S3, so CodeUri has been replaced before it is called; and it changes the
template that it is given, which is how the merged properties of a function are read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from okiba.adapters.sam_document import Document
from okiba.core.errors import InvalidParameter

CODE_PLACEHOLDER = "s3://okiba/code"

_RESOURCE_ID = re.compile(r"Resource with id \[(\w+)\] is invalid\. ")
_PROPERTY = re.compile(r"'(\w+)' property")


@dataclass(frozen=True, slots=True)
class Translated:
    """What became of a template.

    Args:
        merged: SAM resources by logical id, Globals merged into their properties.
        resources: CloudFormation resources by logical id.
    """

    merged: Mapping[str, Any]
    resources: Mapping[str, Any]

    def policy_documents(self, logical_id: str) -> list[dict[str, Any]]:
        """The policy documents of the role that was made for a function."""
        role = self.resources.get(f"{logical_id}Role", {})
        return [policy["PolicyDocument"] for policy in role.get("Properties", {}).get("Policies", [])]


def translate(document: Document, body: dict[str, Any], region: str) -> Translated:
    """The template, translated; `body` is changed.

    Raises:
        InvalidParameter: The translator refuses it; says everything that it says.
    """
    # Importing the translator takes 0.4 to 1 s; only deploying pays for it.
    from samtranslator.model.exceptions import ExceptionWithMessage, InvalidDocumentException
    from samtranslator.parser.parser import Parser
    from samtranslator.translator.translator import Translator

    translator = Translator({}, Parser(), boto_session=SimpleNamespace(region_name=region))
    try:
        resources = translator.translate(body, {})["Resources"]
    except InvalidDocumentException as error:
        raise InvalidParameter("\n".join(_told(document, cause.message) for cause in error.causes)) from error
    except ExceptionWithMessage as error:
        raise InvalidParameter(_told(document, error.message)) from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # The translator stumbles over some values of a wrong type instead of refusing them.
        raise InvalidParameter(f"{document.name}: a value has the wrong type: {error!r}") from error
    finally:
        translator.metrics.publish()  # to nobody; what it has counted it would complain of at exit
    return Translated(body["Resources"], resources)


def _told(document: Document, message: str) -> str:
    """The translator's message at the line of the property that it names, else of the resource."""
    if not (match := _RESOURCE_ID.match(message)):
        return document.at(("Resources",), message)
    named = _PROPERTY.search(message)
    place = ("Resources", match[1], "Properties", named[1]) if named else ("Resources", match[1])
    return document.at(place, message[match.end() :])
