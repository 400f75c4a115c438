"""What Okiba makes of everything that a template can say: honoured, without effect here, or refused. Tables only.

The rule: what would change meaning or security is refused with what to do instead; what merely does not matter on
one's own machines is a warning; nothing is ignored silently. A property that stands in no table is refused as unknown.
A test holds `FUNCTION` against every property that SAM's own model of a function has.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final


class Effect(StrEnum):
    """What a property does here."""

    HONOURED = "honoured"
    WITHOUT_EFFECT = "without effect"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Rule:
    """One property's line in a table.

    Args:
        text: Why, and what to do instead; empty when honoured.
        fine: Values that mean just what happens here anyway, and so need neither warning nor refusal.
    """

    effect: Effect
    text: str = ""
    fine: tuple[Any, ...] = ()

    def effect_of(self, value: object) -> Effect:
        """The effect of the property when it has this value."""
        return Effect.HONOURED if value in self.fine else self.effect


Table = Mapping[str, Rule]

HONOURED: Final = Rule(Effect.HONOURED)


def _ineffective(text: str, *fine: object) -> Rule:
    return Rule(Effect.WITHOUT_EFFECT, text, fine)


def _refused(text: str, *fine: object) -> Rule:
    return Rule(Effect.REFUSED, text, fine)


_MACHINE: Final = "arm64" if platform.machine().lower() in {"arm64", "aarch64"} else "x86_64"
"""This machine's processor, in Lambda's words."""

_NO_VERSIONS = _refused("this release runs $LATEST only; leave versions and aliases out")
_NO_IMAGES = _refused("functions are zip packages here, not container images; use CodeUri and a Runtime")
_NO_NETWORK = _refused("Okiba has no private networks or file systems to attach; leave it out")
_NO_CONDITIONS = _refused("conditions are not in this release; use Parameters, or one template for each case")
_ONE_KIND_OF_SLOT = _refused("functions run in Okiba's own slots; leave it out")
_SET_AT_BUCKET = "deploy creates plain buckets; leave it out and set it at the object store with the aws CLI"
_NOT_MEASURED = "the object store of this machine does not do that"

TEMPLATE: Final[Table] = {
    "AWSTemplateFormatVersion": HONOURED,
    "Transform": HONOURED,
    "Description": HONOURED,
    "Metadata": HONOURED,
    "Parameters": HONOURED,
    "Globals": HONOURED,
    "Resources": HONOURED,
    "Outputs": _ineffective("Okiba keeps no stack outputs"),
    "Conditions": _NO_CONDITIONS,
    "Mappings": _refused("mappings are not in this release; use Parameters with defaults"),
    "Rules": _refused("rules are not in this release; use AllowedValues or AllowedPattern of the parameters"),
    "Hooks": _refused("hooks belong to CloudFormation; leave them out"),
}

GLOBALS: Final[Table] = {"Function": HONOURED}

RESOURCE: Final[Table] = {
    "Type": HONOURED,
    "Properties": HONOURED,
    "Metadata": HONOURED,
    "DependsOn": HONOURED,  # buckets are made before functions, and functions are ready before deploy returns
    "Condition": _NO_CONDITIONS,
    "DeletionPolicy": _ineffective("deploy and `okiba delete` never delete a bucket", "Retain"),
    "UpdateReplacePolicy": _ineffective("deploy never replaces or deletes a bucket", "Retain"),
    "CreationPolicy": _refused("deploy waits until a function is active; leave it out"),
    "UpdatePolicy": _refused("deploy updates functions in place; leave it out"),
    "Connectors": _refused("write Policies instead"),
    "IgnoreGlobals": _refused("leave Globals out, or write the properties at the functions"),
}

RESOURCE_TYPES: Final[Table] = {
    "AWS::Serverless::Function": HONOURED,
    "AWS::S3::Bucket": HONOURED,
    "AWS::Serverless::LayerVersion": _refused("put packages into requirements.txt beside the code"),
    "AWS::Lambda::LayerVersion": _refused("put packages into requirements.txt beside the code"),
    "AWS::Lambda::Function": _refused("write it as AWS::Serverless::Function"),
    "AWS::Lambda::Permission": _refused("Events give the permission; leave it out"),
    "AWS::IAM::Role": _refused("write Policies at the function; Okiba makes a user with these for it"),
    "AWS::IAM::Policy": _refused("write Policies at the function; Okiba makes a user with these for it"),
    "AWS::Logs::LogGroup": _refused("output is always kept; see `okiba logs`"),
}

FUNCTION: Final[Table] = {
    "FunctionName": HONOURED,
    "Handler": HONOURED,
    "Runtime": HONOURED,
    "CodeUri": HONOURED,
    "InlineCode": HONOURED,
    "Description": HONOURED,
    "MemorySize": HONOURED,
    "Timeout": HONOURED,
    "Environment": HONOURED,
    "Policies": HONOURED,
    "Events": HONOURED,
    "Tags": HONOURED,
    "ReservedConcurrentExecutions": HONOURED,
    "EventInvokeConfig": HONOURED,
    "PackageType": _refused("only Zip packages run here, not container images", "Zip"),
    "ImageUri": _NO_IMAGES,
    "ImageConfig": _NO_IMAGES,
    "Layers": _refused("put packages into requirements.txt beside the code; Okiba builds a layer from it"),
    "Role": _refused("write Policies instead; Okiba makes a user with these for the function"),
    "PermissionsBoundary": _refused("only Policies limit a function here; write them as narrow as they must be"),
    "AssumeRolePolicyDocument": _refused("nothing else can take over a function's user; leave it out"),
    "RolePath": _ineffective("a function has a user of its own, not a role with a path"),
    "DeadLetterQueue": _refused("Okiba keeps dead letters itself: see `okiba dlq list`; leave it out"),
    "VpcConfig": _NO_NETWORK,
    "FileSystemConfigs": _NO_NETWORK,
    "EphemeralStorage": _refused("the size of /tmp cannot be chosen; Size must be 512", {"Size": 512}),
    "Architectures": _refused(f"functions run on this machine's own processor, which is {_MACHINE}", [_MACHINE]),
    "Tracing": _ineffective("there is no X-Ray here", "PassThrough", "Disabled"),
    "PropagateTags": _ineffective("only functions have tags here", False),
    "KmsKeyArn": _refused("variables are encrypted with the installation's own key; leave it out"),
    "SourceKMSKeyArn": _refused("there is no KMS here; leave it out"),
    "CodeSigningConfigArn": _refused("signed packages are not in this release; leave it out"),
    "AutoPublishAlias": _NO_VERSIONS,
    "AutoPublishCodeSha256": _NO_VERSIONS,
    "AutoPublishAliasAllProperties": _NO_VERSIONS,
    "VersionDescription": _NO_VERSIONS,
    "VersionDeletionPolicy": _NO_VERSIONS,
    "PublishToLatestPublished": _NO_VERSIONS,
    "DeploymentPreference": _NO_VERSIONS,
    "ProvisionedConcurrencyConfig": _refused("warm slots are a setting of the installation; leave it out"),
    "SnapStart": _ineffective("slots are forked from a warm process instead of a snapshot"),
    "RuntimeManagementConfig": _ineffective("the runtime is the Python that is installed on this machine"),
    "FunctionUrlConfig": _refused("function URLs are not in this release; use `okiba invoke` or boto3"),
    "LoggingConfig": _refused("output is kept as text: see `okiba logs`; leave it out"),
    "RecursiveLoop": _refused("there is no recursion guard in this release; leave it out", "Allow"),
    "CapacityProviderConfig": _ONE_KIND_OF_SLOT,
    "FunctionScalingConfig": _refused("use ReservedConcurrentExecutions"),
    "TenancyConfig": _ONE_KIND_OF_SLOT,
    "DurableConfig": _refused("durable functions are not in this release"),
}

ENVIRONMENT: Final[Table] = {"Variables": HONOURED}

EVENT_INVOKE_CONFIG: Final[Table] = {
    "MaximumEventAgeInSeconds": HONOURED,
    "MaximumRetryAttempts": HONOURED,
    "DestinationConfig": _refused("destinations are not in this release; Okiba keeps dead letters: `okiba dlq list`"),
}

EVENT: Final[Table] = {"Type": HONOURED, "Properties": HONOURED}

_NO_APIS = _refused("HTTP APIs are not in this release; use `okiba invoke` or boto3")
_NO_SCHEDULES = _refused("schedules are not in this release; call `okiba invoke` from cron")
_NO_QUEUES = _refused("only S3 events start functions in this release")

EVENT_TYPES: Final[Table] = {
    "S3": HONOURED,
    "Api": _NO_APIS,
    "HttpApi": _NO_APIS,
    "Schedule": _NO_SCHEDULES,
    "ScheduleV2": _NO_SCHEDULES,
    "SQS": _NO_QUEUES,
    "SNS": _NO_QUEUES,
    "Kinesis": _NO_QUEUES,
    "DynamoDB": _NO_QUEUES,
    "DocumentDB": _NO_QUEUES,
    "EventBridgeRule": _NO_QUEUES,
    "CloudWatchEvent": _NO_QUEUES,
    "CloudWatchLogs": _NO_QUEUES,
    "IoTRule": _NO_QUEUES,
    "AlexaSkill": _NO_QUEUES,
    "Cognito": _NO_QUEUES,
    "MSK": _NO_QUEUES,
    "MQ": _NO_QUEUES,
    "SelfManagedKafka": _NO_QUEUES,
}

S3_EVENT: Final[Table] = {"Bucket": HONOURED, "Events": HONOURED, "Filter": HONOURED}

BUCKET: Final[Table] = {
    "BucketName": HONOURED,
    "AccessControl": _refused("buckets are private here", "Private"),
    "PublicAccessBlockConfiguration": _ineffective("buckets are private here"),
    "OwnershipControls": _ineffective("all objects belong to this installation"),
    "BucketEncryption": _ineffective("encryption at rest is the disk's"),
    "Tags": _ineffective("buckets have no tags here"),
    "AccelerateConfiguration": _ineffective(_NOT_MEASURED),
    "AnalyticsConfigurations": _ineffective(_NOT_MEASURED),
    "IntelligentTieringConfigurations": _ineffective(_NOT_MEASURED),
    "InventoryConfigurations": _ineffective(_NOT_MEASURED),
    "LoggingConfiguration": _ineffective(_NOT_MEASURED),
    "MetricsConfigurations": _ineffective(_NOT_MEASURED),
    "NotificationConfiguration": _refused("write the event under Events of the function"),
    "CorsConfiguration": _refused(_SET_AT_BUCKET),
    "LifecycleConfiguration": _refused(_SET_AT_BUCKET),
    "ObjectLockConfiguration": _refused(_SET_AT_BUCKET),
    "ObjectLockEnabled": _refused(_SET_AT_BUCKET, False),
    "ReplicationConfiguration": _refused(_SET_AT_BUCKET),
    "VersioningConfiguration": _refused(_SET_AT_BUCKET, {"Status": "Suspended"}),
    "WebsiteConfiguration": _refused(_SET_AT_BUCKET),
    "MetadataTableConfiguration": _refused(_SET_AT_BUCKET),
}

FUNCTION_METADATA: Final[Table] = {
    "Okiba": HONOURED,
    "SamResourceId": HONOURED,
    "BuildMethod": _refused(
        "deploy packages the folder as it is and builds requirements.txt into a layer",
        *(f"python3.{minor}" for minor in range(10, 15)),
    ),
    "BuildProperties": _refused("deploy packages the folder as it is"),
    "Dockerfile": _NO_IMAGES,
    "DockerContext": _NO_IMAGES,
    "DockerTag": _NO_IMAGES,
    "DockerBuildArgs": _NO_IMAGES,
}

OKIBA: Final[Table] = {"Preload": HONOURED, "AllowSourcePackages": HONOURED}

PARAMETER: Final[Table] = {
    "Type": HONOURED,
    "Default": HONOURED,
    "Description": HONOURED,
    "AllowedValues": HONOURED,
    "AllowedPattern": HONOURED,
    "ConstraintDescription": HONOURED,
    "MinLength": HONOURED,
    "MaxLength": HONOURED,
    "MinValue": HONOURED,
    "MaxValue": HONOURED,
    "NoEcho": HONOURED,  # nothing prints a parameter's value
}
