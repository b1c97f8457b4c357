"""Chat templates with tools, with the structure of the families that write calls each in their own way."""

from __future__ import annotations

_OPENS = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
_TOOLS = (
    "{% if tools %}{{ '<|im_start|>system\n# Tools\n<tools>' }}{% for tool in tools %}{{ '\n' }}{{ tool | tojson }}"
    '{% endfor %}{{ \'\n</tools>\nWrite <tool_call>\n{"name": NAME, "arguments": OBJECT}\n</tool_call><|im_end|>\n\' }}'
    "{% endif %}"
)

QWEN = (
    _TOOLS + "{% for message in messages %}{% if message.role == 'tool' %}"
    "{{ '<|im_start|>user\n<tool_response>\n' + message.content + '\n</tool_response><|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' + message.role + '\n' }}{% if message.content %}{{ message.content }}{% endif %}"
    "{% for call in message.tool_calls %}{% if not loop.first or message.content %}{{ '\n' }}{% endif %}"
    "{{ '<tool_call>\n' }}"
    '{{ \'{"name": "\' + call.function.name + \'", "arguments": \' }}{{ call.function.arguments | tojson }}'
    "{{ '}\n</tool_call>' }}{% endfor %}{{ '<|im_end|>\n' }}{% endif %}{% endfor %}" + _OPENS
)

HERMES = (
    _TOOLS + "{% for message in messages %}{% if message.role == 'tool' %}"
    "{% if not message.name is defined %}{{ raise_exception('a result needs a name') }}{% endif %}"
    '{{ \'<|im_start|>tool\n<tool_response>\n{"name": "\' + message.name + \'", "content": \' }}'
    "{{ message.content | tojson }}{{ '}\n</tool_response> <|im_end|>\n' }}"
    "{% elif message.tool_calls is defined %}{{ '<|im_start|>assistant' }}{% for call in message.tool_calls %}"
    "{{ '\n<tool_call>\n{ \"arguments\": ' }}{{ call.function.arguments | tojson }}"
    "{{ ', \"name\": \"' + call.function.name + '\"}\n</tool_call> ' }}{% endfor %}{{ '<|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    + _OPENS
)

_NINE = (
    "{% if call.id is not defined or call.id | length != 9 %}{{ raise_exception('ids have 9 characters') }}{% endif %}"
)
_MISTRAL_TOOLS = (
    "{% if tools is not none and message == (messages | selectattr('role', 'equalto', 'user') | list)[-1] %}"
    "{{ '[AVAILABLE_TOOLS] ' }}{{ tools | tojson }}{{ '[/AVAILABLE_TOOLS]' }}{% endif %}"
)

MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'user' %}"
    + _MISTRAL_TOOLS
    + "{{ '[INST] ' + message.content + '[/INST]' }}"
    "{% elif message.tool_calls is defined %}{{ '[TOOL_CALLS] [' }}{% for call in message.tool_calls %}"
    + _NINE
    + "{{ (call.function | tojson)[:-1] + ', \"id\": \"' + call.id + '\"}' }}"
    "{{ ', ' if not loop.last else ']' + eos_token }}{% endfor %}"
    "{% elif message.role == 'assistant' %}{{ ' ' + message.content + eos_token }}"
    "{% elif message.role == 'tool' %}"
    "{{ '[TOOL_RESULTS] {\"content\": ' + message.content + ', \"call_id\": \"' + message.tool_call_id + '\"}' }}"
    "{{ '[/TOOL_RESULTS]' }}"
    "{% else %}{{ raise_exception('Only user and assistant are supported') }}{% endif %}{% endfor %}"
)

MISTRAL_ARGS = (
    "{{ bos_token }}{% if tools %}{{ '[AVAILABLE_TOOLS]' }}{{ tools | tojson }}{{ '[/AVAILABLE_TOOLS]' }}{% endif %}"
    "{% for message in messages %}{% if message.role == 'user' %}{{ '[INST]' + message.content + '[/INST]' }}"
    "{% elif message.role == 'system' %}{{ '[SYSTEM_PROMPT]' + message.content + '[/SYSTEM_PROMPT]' }}"
    "{% elif message.role == 'assistant' %}{{ message.content or '' }}{% for call in message.tool_calls %}"
    "{{ '[TOOL_CALLS]' + call.function.name + '[ARGS]' + (call.function.arguments | tojson) }}{% endfor %}"
    "{{ eos_token }}{% else %}{{ '[TOOL_RESULTS]' + message.content + '[/TOOL_RESULTS]' }}{% endif %}{% endfor %}"
)

PHI4 = (
    "{% for message in messages %}{% if message['role'] == 'system' and 'tools' in message "
    "and message['tools'] is not none %}"
    "{{ '<|system|>' + message['content'] + '<|tool|>' + message['tools'] + '<|/tool|><|end|>' }}"
    "{% else %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

# Refuses to be given no list of tools at all, and has each call between its marks.
PHI4_EACH = (
    "{{ '<|system|>' }}{% for tool in tools %}{{ '<|tool|>' + (tool.function | tojson) + '<|/tool|>' }}{% endfor %}"
    "{{ '<|end|>' }}{% for message in messages %}{% if message.role == 'tool' %}"
    "{{ '<|tool_response|>' + (message.content | tojson) + '<|end|>' }}"
    "{% else %}{{ '<|' + message.role + '|>' + (message.content or '') }}{% for call in message.tool_calls %}"
    "{{ '<|tool_call|>' + (call.function | tojson) + '<|/tool_call|>' }}{% endfor %}{{ '<|end|>' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

GRANITE = (
    "{% if tools %}{{ '<|start_of_role|>system<|end_of_role|>Respond with <|tool_call|> followed by a JSON list of "
    "tools used.<|end_of_text|>\n<|start_of_role|>tools<|end_of_role|>' }}{{ tools | tojson(indent=4) }}"
    "{{ '<|end_of_text|>\n' }}{% endif %}"
    "{% for message in messages %}{{ '<|start_of_role|>' + message['role'] + '<|end_of_role|>' + message['content'] "
    "+ '<|end_of_text|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_of_role|>assistant<|end_of_role|>' }}{% endif %}"
)

LLAMA3 = (
    "{{ bos_token }}{% if tools is not none %}{{ '<|start_header_id|>system<|end_header_id|>\n\nRespond in the format "
    '{"name": function name, "parameters": dictionary of argument name and its value}.\n\n\' }}'
    "{% for tool in tools %}{{ tool | tojson(indent=4) }}{{ '\n\n' }}{% endfor %}{{ '<|eot_id|>' }}{% endif %}"
    "{% for message in messages %}{% if message.role == 'tool' %}"
    "{{ '<|start_header_id|>ipython<|end_header_id|>\n\n' }}{{ {'output': message.content} | tojson }}"
    "{% elif message.tool_calls is defined %}{% if message.tool_calls | length != 1 %}"
    "{{ raise_exception('This model only supports single tool-calls at once!') }}{% endif %}"
    "{% set call = message.tool_calls[0].function %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    "{{ '{\"name\": \"' + call.name + '\", \"parameters\": ' }}{{ call.arguments | tojson }}{{ '}' }}"
    "{% else %}{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' + message.content | trim }}{% endif %}"
    "{{ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)

# Calls are not written, and tools are taken under another name.
SMOLLM3 = (
    "{% if xml_tools %}{{ '<|im_start|>system\n<tools>' }}{% for tool in xml_tools %}{{ tool | string }}{% endfor %}"
    "{{ '</tools>\nWithin <tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call><|im_end|>\n\' }}{% endif %}'
    "{% for message in messages %}{% set content = message.content if message.content is string else '' %}"
    "{% if message.role == 'tool' %}{{ '<|im_start|>user\n' + content + '<|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' + message.role + '\n' + content + '<|im_end|>\n' }}{% endif %}{% endfor %}" + _OPENS
)

# Calls as Python writes them, which no format here reads.
PYTHONIC = (
    "{{ bos_token }}{% for message in messages %}{{ '<start_of_turn>' + message.role + '\n' }}"
    "{% if loop.first and tools %}{{ 'Respond with [f(x=1)].\n' }}{{ tools | tojson }}{% endif %}"
    "{% for call in message.tool_calls %}{{ '[' + call.function.name + '(' }}"
    "{% for key, value in call.function.arguments.items() %}{{ key }}={{ value | tojson }}{% endfor %}{{ ')]' }}"
    "{% endfor %}{{ message.content or '' }}{{ '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)

LISTED = (
    "{% if tools %}{{ '### Tools\n' }}{{ tools | tojson }}{% endif %}"
    "{% for message in messages %}{{ '### ' + message.role + '\n' }}{{ message.content or '' }}"
    "{% if message.tool_calls %}{{ '[' }}{% for call in message.tool_calls %}{{ call.function | tojson }}"
    "{{ ', ' if not loop.last }}{% endfor %}{{ ']' }}{% endif %}{{ '\n' }}{% endfor %}{{ '### assistant\n' }}"
)

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}" + _OPENS
)

BY_FORMAT = {
    "qwen": (QWEN, "hermes", "tools"),
    "hermes": (HERMES, "hermes", "tools"),
    "mistral": (MISTRAL, "mistral", "tools"),
    "mistral-args": (MISTRAL_ARGS, "mistral-args", "tools"),
    "phi4": (PHI4, "phi4", "message"),
    "phi4-each": (PHI4_EACH, "phi4-each", "tools"),
    "granite": (GRANITE, "granite", "tools"),
    "llama3": (LLAMA3, "llama3", "tools"),
    "smollm3": (SMOLLM3, "hermes", "xml_tools"),
    "listed": (LISTED, "json-list", "tools"),
    "pythonic": (PYTHONIC, "hermes", "told"),
    "chatml": (CHATML, "hermes", "told"),
}
"""Each with the format in which it writes calls, and how it is shown tools."""
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
