"""Operations of AWS Lambda that this release does not have, by method and path: so that a refusal can name them.

Taken from botocore 1.44.5's service model; a test compares the two, so that this module need not import it.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from okiba.core.errors import NotFound, OkibaError, UnsupportedOperation

ABSENT: Final = """
POST /2014-11-13/functions/{FunctionName}/invoke-async InvokeAsync
GET /2015-03-31/event-source-mappings ListEventSourceMappings
POST /2015-03-31/event-source-mappings CreateEventSourceMapping
DELETE /2015-03-31/event-source-mappings/{UUID} DeleteEventSourceMapping
GET /2015-03-31/event-source-mappings/{UUID} GetEventSourceMapping
PUT /2015-03-31/event-source-mappings/{UUID} UpdateEventSourceMapping
GET /2015-03-31/functions/{FunctionName}/aliases ListAliases
POST /2015-03-31/functions/{FunctionName}/aliases CreateAlias
DELETE /2015-03-31/functions/{FunctionName}/aliases/{Name} DeleteAlias
GET /2015-03-31/functions/{FunctionName}/aliases/{Name} GetAlias
PUT /2015-03-31/functions/{FunctionName}/aliases/{Name} UpdateAlias
GET /2015-03-31/functions/{FunctionName}/policy GetPolicy
POST /2015-03-31/functions/{FunctionName}/policy AddPermission
DELETE /2015-03-31/functions/{FunctionName}/policy/{StatementId} RemovePermission
GET /2015-03-31/functions/{FunctionName}/versions ListVersionsByFunction
POST /2015-03-31/functions/{FunctionName}/versions PublishVersion
GET /2016-08-19/account-settings GetAccountSettings
DELETE /2017-03-31/tags/{Resource} UntagResource
GET /2017-03-31/tags/{Resource} ListTags
POST /2017-03-31/tags/{Resource} TagResource
GET /2018-10-31/layers GetLayerVersionByArn
GET /2018-10-31/layers/{LayerName}/versions ListLayerVersions
POST /2018-10-31/layers/{LayerName}/versions PublishLayerVersion
DELETE /2018-10-31/layers/{LayerName}/versions/{VersionNumber} DeleteLayerVersion
GET /2018-10-31/layers/{LayerName}/versions/{VersionNumber} GetLayerVersion
GET /2018-10-31/layers/{LayerName}/versions/{VersionNumber}/policy GetLayerVersionPolicy
POST /2018-10-31/layers/{LayerName}/versions/{VersionNumber}/policy AddLayerVersionPermission
DELETE /2018-10-31/layers/{LayerName}/versions/{VersionNumber}/policy/{StatementId} RemoveLayerVersionPermission
GET /2019-09-25/functions/{FunctionName}/event-invoke-config/list ListFunctionEventInvokeConfigs
DELETE /2019-09-30/functions/{FunctionName}/provisioned-concurrency DeleteProvisionedConcurrencyConfig
GET /2019-09-30/functions/{FunctionName}/provisioned-concurrency GetProvisionedConcurrencyConfig
PUT /2019-09-30/functions/{FunctionName}/provisioned-concurrency PutProvisionedConcurrencyConfig
GET /2020-04-22/code-signing-configs ListCodeSigningConfigs
POST /2020-04-22/code-signing-configs CreateCodeSigningConfig
DELETE /2020-04-22/code-signing-configs/{CodeSigningConfigArn} DeleteCodeSigningConfig
GET /2020-04-22/code-signing-configs/{CodeSigningConfigArn} GetCodeSigningConfig
PUT /2020-04-22/code-signing-configs/{CodeSigningConfigArn} UpdateCodeSigningConfig
GET /2020-04-22/code-signing-configs/{CodeSigningConfigArn}/functions ListFunctionsByCodeSigningConfig
DELETE /2020-06-30/functions/{FunctionName}/code-signing-config DeleteFunctionCodeSigningConfig
GET /2020-06-30/functions/{FunctionName}/code-signing-config GetFunctionCodeSigningConfig
PUT /2020-06-30/functions/{FunctionName}/code-signing-config PutFunctionCodeSigningConfig
GET /2021-07-20/functions/{FunctionName}/runtime-management-config GetRuntimeManagementConfig
PUT /2021-07-20/functions/{FunctionName}/runtime-management-config PutRuntimeManagementConfig
DELETE /2021-10-31/functions/{FunctionName}/url DeleteFunctionUrlConfig
GET /2021-10-31/functions/{FunctionName}/url GetFunctionUrlConfig
POST /2021-10-31/functions/{FunctionName}/url CreateFunctionUrlConfig
PUT /2021-10-31/functions/{FunctionName}/url UpdateFunctionUrlConfig
GET /2021-10-31/functions/{FunctionName}/urls ListFunctionUrlConfigs
POST /2021-11-15/functions/{FunctionName}/response-streaming-invocations InvokeWithResponseStream
GET /2024-08-31/functions/{FunctionName}/recursion-config GetFunctionRecursionConfig
PUT /2024-08-31/functions/{FunctionName}/recursion-config PutFunctionRecursionConfig
GET /2025-11-30/capacity-providers ListCapacityProviders
POST /2025-11-30/capacity-providers CreateCapacityProvider
DELETE /2025-11-30/capacity-providers/{CapacityProviderName} DeleteCapacityProvider
GET /2025-11-30/capacity-providers/{CapacityProviderName} GetCapacityProvider
PUT /2025-11-30/capacity-providers/{CapacityProviderName} UpdateCapacityProvider
GET /2025-11-30/capacity-providers/{CapacityProviderName}/function-versions ListFunctionVersionsByCapacityProvider
GET /2025-11-30/functions/{FunctionName}/function-scaling-config GetFunctionScalingConfig
PUT /2025-11-30/functions/{FunctionName}/function-scaling-config PutFunctionScalingConfig
POST /2025-12-01/durable-execution-callbacks/{CallbackId}/fail SendDurableExecutionCallbackFailure
POST /2025-12-01/durable-execution-callbacks/{CallbackId}/heartbeat SendDurableExecutionCallbackHeartbeat
POST /2025-12-01/durable-execution-callbacks/{CallbackId}/succeed SendDurableExecutionCallbackSuccess
DELETE /2025-12-01/durable-executions/{DurableExecutionArn} DeleteDurableExecution
GET /2025-12-01/durable-executions/{DurableExecutionArn} GetDurableExecution
POST /2025-12-01/durable-executions/{DurableExecutionArn}/checkpoint CheckpointDurableExecution
GET /2025-12-01/durable-executions/{DurableExecutionArn}/history GetDurableExecutionHistory
POST /2025-12-01/durable-executions/{DurableExecutionArn}/pause PauseDurableExecution
POST /2025-12-01/durable-executions/{DurableExecutionArn}/resume ResumeDurableExecution
GET /2025-12-01/durable-executions/{DurableExecutionArn}/state GetDurableExecutionState
POST /2025-12-01/durable-executions/{DurableExecutionArn}/stop StopDurableExecution
GET /2025-12-01/functions/{FunctionName}/durable-executions ListDurableExecutionsByFunction
DELETE /2026-07-09/resource-policy/{ResourceArn} DeleteResourcePolicy
GET /2026-07-09/resource-policy/{ResourceArn} GetResourcePolicy
PUT /2026-07-09/resource-policy/{ResourceArn} PutResourcePolicy
"""
"""METHOD PATH OPERATION, a line each; where two operations differ by a query parameter alone, the first."""


class UnknownOperation(NotFound):
    """No operation of Lambda's, nor a route of Okiba's, has this method and path."""

    code = "UnknownOperationException"


def missing(method: str, path: str) -> OkibaError:
    """The error for a request that no route answers: 501 naming the operation if it is one of Lambda's, else 404."""
    for operation_method, pattern, name in _patterns():
        if method == operation_method and pattern.fullmatch(path):
            return UnsupportedOperation(f"Okiba does not have the operation {name}")
    return UnknownOperation(f"Unable to determine an operation for {method} {path[:256]}")


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str], str], ...]:
    return tuple(_pattern(line) for line in ABSENT.split("\n") if line)


def _pattern(line: str) -> tuple[str, re.Pattern[str], str]:
    method, path, name = line.split(" ")
    return method, re.compile(re.sub(r"\{\w+\}", "[^/]+", path) + "/?"), name
