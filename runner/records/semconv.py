"""The names in our traces; the one module that spells them.

The GenAI conventions left OpenTelemetry's core repository with its release 1.42.0 and have had no
release of their own yet, so what is pinned is the last published schema that defines them.
https://github.com/open-telemetry/semantic-conventions/tree/v1.41.0/docs/gen-ai
"""

from __future__ import annotations

SCHEMA_URL = "https://opentelemetry.io/schemas/1.41.0"

# -- resource and scope --------------------------------------------------------------------------
SERVICE_NAME = "service.name"
SERVICE_NAME_VALUE = "agenttrace-runner"
SERVICE_VERSION = "service.version"
SCOPE_NAME = "runner.records"

# -- spans: docs/gen-ai/gen-ai-agent-spans.md, "Invoke agent client span" ------------------------
OPERATION_NAME = "gen_ai.operation.name"
INVOKE_AGENT = "invoke_agent"
PROVIDER_NAME = "gen_ai.provider.name"
PROVIDER_NAME_VALUE = "agenttrace"
"""A custom value, as the conventions allow: which provider a stranger's agent uses is unknown."""
AGENT_NAME = "gen_ai.agent.name"
AGENT_VERSION = "gen_ai.agent.version"
AGENT_ID = "gen_ai.agent.id"
REQUEST_SEED = "gen_ai.request.seed"
USAGE_INPUT_TOKENS = "gen_ai.usage.input_tokens"
USAGE_OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
ERROR_TYPE = "error.type"

# -- spans: docs/gen-ai/gen-ai-spans.md, "Inference", "Embeddings" and "Execute tool" --------------
CHAT = "chat"
EMBEDDINGS = "embeddings"
EXECUTE_TOOL = "execute_tool"
REQUEST_MODEL = "gen_ai.request.model"
FINISH_REASONS = "gen_ai.response.finish_reasons"
TOOL_NAME = "gen_ai.tool.name"
TOOL_TYPE = "gen_ai.tool.type"
TOOL_TYPE_VALUE = "function"
TOOL_ARGUMENTS = "gen_ai.tool.call.arguments"
TOOL_RESULT = "gen_ai.tool.call.result"
TOOL_ERROR = "tool_error"
"""Our `error.type` of a tool that was called and has no result."""

# -- events: docs/gen-ai/gen-ai-events.md --------------------------------------------------------
OPERATION_DETAILS_EVENT = "gen_ai.client.inference.operation.details"
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
EVALUATION_EVENT = "gen_ai.evaluation.result"
EVALUATION_NAME = "gen_ai.evaluation.name"
EVALUATION_SCORE_VALUE = "gen_ai.evaluation.score.value"
EVALUATION_SCORE_LABEL = "gen_ai.evaluation.score.label"
EVALUATION_EXPLANATION = "gen_ai.evaluation.explanation"

# -- our own -------------------------------------------------------------------------------------
RUN_ID = "agenttrace.run.id"
SUBMISSION_ID = "agenttrace.submission.id"
TASK_ID = "agenttrace.task.id"
TASK_CATEGORY = "agenttrace.task.category"
REPEAT = "agenttrace.repeat"
ATTEMPT = "agenttrace.attempt"
STATUS = "agenttrace.status"
FAILURE_REASON = "agenttrace.failure.reason"
ENDING = "agenttrace.ending"
EXIT_CODE = "agenttrace.exit_code"
SIGNAL = "agenttrace.signal"
OUTPUT_BYTES = "agenttrace.output.bytes"
OUTPUT_TRUNCATED = "agenttrace.output.truncated"
STDOUT_BYTES = "agenttrace.stdout.bytes"
STDERR_BYTES = "agenttrace.stderr.bytes"
CONFIRMED_DEAD = "agenttrace.agent.confirmed_dead"
USAGE_PREFIX = "agenttrace.usage."
"""Followed by the name of a field of `ResourceUsage`: measured, never the agent's word."""
CLAIM_PREFIX = "agenttrace.claim."
"""Followed by the agent's own name for what it says of itself."""
SANDBOX_PREFIX = "agenttrace.sandbox."
"""Followed by the name of a field of `SandboxFacts`."""
STAGE = "agenttrace.stage"
CALL_NUMBER = "agenttrace.call.number"
"""Its place among the attempt's exchanges; what a span of a call is known by."""
CALL_DIGEST = "agenttrace.call.digest"
CALL_API = "agenttrace.call.api"
CALL_STATUS = "agenttrace.call.status"
CALL_REFUSED = "agenttrace.call.refused"
CALL_CACHED = "agenttrace.call.cached"
CALL_ABORTED = "agenttrace.call.aborted"
CALL_STREAMED = "agenttrace.call.streamed"
CALL_RETRIES = "agenttrace.call.retries"
CALL_TOKEN_SOURCE = "agenttrace.call.token_source"  # noqa: S105 - of a model's tokens
CALL_COST = "agenttrace.call.cost_usd"
CALL_FIRST_CHUNK_SECONDS = "agenttrace.call.first_chunk_seconds"
CALL_WAITED_SECONDS = "agenttrace.call.waited_seconds"
CALL_REQUEST_BYTES = "agenttrace.call.request_bytes"
CALL_RESPONSE_BYTES = "agenttrace.call.response_bytes"
TOOL_VIA = "agenttrace.tool.via"
TOOL_SUCCEEDED = "agenttrace.tool.succeeded"
MESSAGES_LEFT_OUT = "agenttrace.messages.left_out"
"""How many of a call's earlier messages are not in its event."""

# -- values that OTLP-JSON writes as numbers: opentelemetry/proto/trace/v1/trace.proto -----------
KIND_INTERNAL = 1
KIND_CLIENT = 3
STATUS_ERROR = 2
