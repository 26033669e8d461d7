"""The keys the vault makes in AWS KMS, one for each epoch. docs/FORMATS.md, section 3."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from guard.aws import Access, KmsKey, kms_client, talking_to_kms
from guard.errors import TamperedError, UnavailableError

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_kms.type_defs import AliasListEntryTypeDef, KeyMetadataTypeDef

_OWNER = "guard"
"""The tag that says what guard made a key for."""


@dataclass(frozen=True, slots=True)
class KmsKeys:
    """The keys guard itself makes in an account and region of AWS KMS, by alias, each with a text beside it.

    All methods raise what `KmsKey.encrypt` does.
    """

    client: KMSClient = field(repr=False)

    @property
    def where(self) -> str:
        """The region; holds no secret."""
        return f"AWS KMS in {self.client.meta.region_name}"

    def at(self, key: str) -> KmsKey:
        """Return a key by its alias or ARN."""
        return KmsKey(self.client, key)

    def make(self, alias: str, owner: str) -> str:
        """Make a symmetric key tagged with its owner, give it an alias that is free, and return its ARN."""
        with talking_to_kms(self.where):
            made = self.client.create_key(Tags=[{"TagKey": _OWNER, "TagValue": owner}])["KeyMetadata"]["Arn"]
        self.point(alias, made)
        return made

    def point(self, alias: str, arn: str) -> None:
        """Give a key an alias that is free."""
        with talking_to_kms(f"{alias} in {self.where}"):
            self.client.create_alias(AliasName=alias, TargetKeyId=_id(arn))

    def look(self, key: str, owner: str) -> tuple[str, str, datetime | None] | None:
        """Return (ARN, text, when it will be deleted) of a key by alias or ARN; None when there is none.

        Raises TamperedError when it is not tagged with this owner: nothing may be done to somebody else's key.
        UnavailableError for an ARN that cannot be looked up from here, which is no proof that it is gone.
        """
        found = self._found(key)
        if found is None:
            return None
        with talking_to_kms(f"{key} in {self.where}"):
            tags = self.client.list_resource_tags(KeyId=found["KeyId"])["Tags"]
        if {"TagKey": _OWNER, "TagValue": owner} not in tags:
            raise TamperedError(
                f"{key} in {self.where} leads to key {found['KeyId']}, which guard did not make for {owner}",
                hint="who changed alias or tag? `aws kms update-alias` points it back; or delete the alias",
            )
        return found["Arn"], found.get("Description", ""), found.get("DeletionDate")

    def set_text(self, arn: str, text: str) -> None:
        """Put a text of at most 8192 characters beside a key."""
        with talking_to_kms(self.where):
            self.client.update_key_description(KeyId=arn, Description=text)

    def delete(self, arn: str, window: timedelta) -> datetime:
        """Have a key deleted after `window` (7 to 30 days), and return when that is."""
        with talking_to_kms(self.where):
            return self.client.schedule_key_deletion(KeyId=_id(arn), PendingWindowInDays=window.days)["DeletionDate"]

    def aliases(self, prefix: str) -> frozenset[str]:
        """Return the aliases that begin with `prefix`."""
        return frozenset(each["AliasName"] for each in self._aliases() if each["AliasName"].startswith(prefix))

    def _aliases(self) -> list[AliasListEntryTypeDef]:
        with talking_to_kms(self.where):
            pages = self.client.get_paginator("list_aliases").paginate()
            return [each for page in pages for each in page["Aliases"]]

    def _found(self, key: str) -> KeyMetadataTypeDef | None:
        with talking_to_kms(f"{key} in {self.where}"):
            try:
                return self.client.describe_key(KeyId=key)["KeyMetadata"]
            except self.client.exceptions.NotFoundException:
                pass
        if key.startswith("arn:") and not any(_home(each["AliasArn"]) == _home(key) for each in self._aliases()):
            raise UnavailableError(
                f"{key} is not to be seen from here, and nothing says that {self.where} is of its account",
                hint="set region and credentials of this [[vault]] to those the key was made with",
            )
        return None


def kms_keys(access: Access) -> KmsKeys:
    """Return the keys guard makes itself; nothing is called yet. Raises ConfigError for settings that cannot be."""
    return KmsKeys(kms_client(access, access.region, "the vault's settings of AWS KMS", "set the region"))


def _home(arn: str) -> list[str]:
    """Return partition, service, region and account of an ARN."""
    return arn.split(":")[1:5]


def _id(arn: str) -> str:
    return arn.rpartition("/")[2]
