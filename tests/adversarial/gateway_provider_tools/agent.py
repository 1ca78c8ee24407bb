"""Whatever would have a provider reach a network, run something, or keep something for the agent."""
prompt()
user = {"role": "user", "content": "x"}
url, data = "http://169.254.169.254/latest", "data:image/png;base64,AAAA"
def part(**fields):
    return {"messages": [{"role": "user", "content": [fields]}]}
chats = [
    {"tools": [{"type": "web_search"}]}, {"web_search_options": {}}, {"tools": [{"type": "mcp", "server_url": url}]},
    {"tools": [{"type": "web_search_preview", "function": {"name": "f"}}]}, {"plugins": [{"id": "web"}]},
    {"tools": [{"type": "function", "function": {"name": "f"}, "server_url": url}]}, {"store": True},
    part(type="image_url", image_url={"url": url}), part(type="image_url", image_url={"url": "HTTPS://x"}),
    part(type="image_url", image_url={"url": data, "fallback": url}), part(type="file", file={"file_id": "file-1"}),
    part(type="file", file={"file_url": url}), part(type="file", file={"file_data": url}), part(type="video_url", video_url={"url": url}),
    {"extra_body": {"api_base": url}}, {"api_base": url}, {"base_url": url}, {"api_key": "k"}, {"extra_headers": {"Host": "x"}},
    {"response_format": {"type": "json_schema"}, "guided_grammar": "x"}, {"prediction": {"type": "content", "content": "x"}},
    {"service_tier": "priority"}, {"modalities": ["audio"]}, {"audio": {"voice": "x"}}, {"fallbacks": ["gpt-4o"]}, {"models": ["a", "b"]},
]
responses = [
    {"tools": [{"type": kind, "server_url": url, "server_label": "x", "container": {"type": "auto"}}]}
    for kind in ("web_search", "web_search_preview", "file_search", "mcp", "code_interpreter", "computer_use_preview", "image_generation", "local_shell", "shell")
] + [
    {"previous_response_id": "resp_1"}, {"conversation": "conv_1"}, {"background": True}, {"store": True}, {"prompt": {"id": "pmpt_1"}},
    {"include": ["file_search_call.results"]}, {"input": [{"type": "item_reference", "id": "i"}]},
    {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]},
    {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": url}]}]},
    {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
    {"input": [{"type": "web_search_call", "id": "x", "status": "completed"}]}, {"input": [{"type": "mcp_approval_response", "approve": True}]},
]
messages = [
    {"tools": [{"type": kind, "name": "x"}]} for kind in ("web_search_20250305", "web_fetch_20250910", "code_execution_20250522", "mcp_toolset")
] + [
    {"mcp_servers": [{"type": "url", "url": url, "name": "x"}]}, {"container": "c"}, {"container": {"skills": []}}, {"service_tier": "standard_only", "speed": "fast"},
    part(type="image", source={"type": "url", "url": url}), part(type="document", source={"type": "url", "url": url}),
    part(type="image", source={"type": "file", "file_id": "f"}), part(type="container_upload", file_id="f"),
    part(type="document", source={"type": "content", "content": [{"type": "image", "source": {"type": "url", "url": url}}]}),
    {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x", "content": [{"type": "image", "source": {"type": "url", "url": url}}]}]}]},
    {"messages": [{"role": "user", "content": [{"type": "server_tool_use", "id": "x", "name": "web_search", "input": {}}]}]},
]
for path, model, base, cases in (
    (CHAT, "local/m", {"messages": [user]}, chats),
    ("/v1/responses", "local/m", {"input": "x"}, responses),
    ("/v1/messages", "claude/c", {"messages": [user], "max_tokens": 5}, messages),
    ("/v1/embeddings", "local/m", {"input": "x"}, [{"input": {"url": url}}, {"input": [{"type": "image_url", "image_url": {"url": url}}]}, {"api_base": url}]),
):
    for case in cases:
        status, said = call(path, {"model": model, **base, **case})
        refused(f"{path} {json.dumps(case)[:100]}", status, 400)
status, said = call("/v1/messages", {"model": "claude/c", "messages": [user], "max_tokens": 5}, Anthropic_Beta="mcp-client-2025-04-04,code-execution-2025-08-25")
print("honest", status)
