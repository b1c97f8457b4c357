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

# Calls as Python writes them.
PYTHONIC = (
    "{{ bos_token }}{% for message in messages %}{{ '<start_of_turn>' + message.role + '\n' }}"
    "{% if loop.first and tools %}{{ 'Respond with [f(x=1)].\n' }}{{ tools | tojson }}{% endif %}"
    "{% for call in message.tool_calls %}{{ '[' + call.function.name + '(' }}"
    "{% for key, value in call.function.arguments.items() %}{{ key }}={{ value | tojson }}{% endfor %}{{ ')]' }}"
    "{% endfor %}{{ message.content or '' }}{{ '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)

# Puts every argument in quotes, whatever it is.
PYTHONIC_QUOTED = PYTHONIC.replace("{{ value | tojson }}", """{{ '"' + value | string + '"' }}""")

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

_GEMMA_VALUES = (
    "{% macro shown(value) %}{% if value is string %}{{ QUOTE + value + QUOTE }}"
    "{% elif value is boolean %}{{ 'true' if value else 'false' }}"
    "{% elif value is mapping %}{{ '{' }}{% for name, each in value | dictsort %}{{ name }}:{{ shown(each) }}"
    "{{ ',' if not loop.last }}{% endfor %}{{ '}' }}"
    "{% elif value is sequence %}{{ '[' }}{% for each in value %}{{ shown(each) }}{{ ',' if not loop.last }}"
    "{% endfor %}{{ ']' }}{% else %}{{ value }}{% endif %}{% endmacro %}"
)

# Wants a result's name, results after calls, and content in every message. Results go on in the model's turn.
FUNCTIONGEMMA = (
    _GEMMA_VALUES.replace("QUOTE", "'<escape>'") + "{{ bos_token }}"
    "{% set told = messages[0].content if messages[0].role == 'system' else '' %}"
    "{% if tools or told %}{{ '<start_of_turn>developer\n' + told }}{% for tool in tools or [] %}"
    "{{ '<start_function_declaration>declaration:' + tool.function.name }}"
    "{{ shown({'description': tool.function.description | default('')}) }}"
    "{{ '<end_function_declaration>' }}{% endfor %}{{ '<end_of_turn>\n' }}{% endif %}"
    "{% set ns = namespace(before='') %}"
    "{% for message in messages if message.role != 'system' %}{% if message.role == 'tool' %}"
    "{% if 'name' not in message %}{{ raise_exception('a result needs a name') }}{% endif %}"
    "{{ '<start_function_response>response:' + message.name + shown({'value': message.content}) }}"
    "{{ '<end_function_response>' }}{% set ns.before = 'tool' %}"
    "{% else %}{% if ns.before == 'call' %}{{ raise_exception('a call needs a result') }}{% endif %}"
    "{% if ns.before != 'tool' %}{{ '<start_of_turn>' + message.role + '\n' }}{% endif %}{{ message.content | trim }}"
    "{% set ns.before = 'text' %}{% for call in message.tool_calls %}"
    "{{ '<start_function_call>call:' + call.function.name + shown(call.function.arguments) }}"
    "{{ '<end_function_call>' }}{% set ns.before = 'call' %}{% endfor %}"
    "{% if ns.before == 'text' %}{{ '<end_of_turn>\n' }}{% endif %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt and ns.before == 'text' %}{{ '<start_of_turn>model\n' }}{% endif %}"
)

# Looks ahead for the results of a call, with a namespace of its own in the loop.
GEMMA4 = (
    _GEMMA_VALUES.replace("QUOTE", "'<|\"|>'") + "{{ bos_token }}"
    "{% if tools %}{{ '<|turn>system\n' }}{% for tool in tools %}{{ '<|tool>declaration:' + tool.function.name }}"
    "{{ shown({'description': tool.function.description | default('')}) }}{{ '<tool|>' }}{% endfor %}"
    "{{ '<turn|>\n' }}{% endif %}"
    "{% for message in messages %}{% if message.role != 'tool' %}"
    "{{ '<|turn>' + ('model' if message.role == 'assistant' else message.role) + '\n' }}"
    "{% for call in message.tool_calls %}"
    "{{ '<|tool_call>call:' + call.function.name + shown(call.function.arguments) + '<tool_call|>' }}{% endfor %}"
    "{% set scan = namespace(stopped=false) %}{% set seen = namespace(count=0) %}"
    "{% for other in messages[loop.index:] if message.tool_calls %}"
    "{% if other.role != 'tool' %}{% set scan.stopped = true %}{% elif not scan.stopped %}"
    "{% set seen.count = seen.count + 1 %}"
    "{{ '<|tool_response>response:' + other.name + shown({'value': other.content}) + '<tool_response|>' }}"
    "{% endif %}{% endfor %}{{ message.content or '' }}{% if not seen.count %}{{ '<turn|>\n' }}{% endif %}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt and messages[-1].role != 'tool' %}{{ '<|turn>model\n' }}{% endif %}"
)

_LFM2_TOOLS = (
    "{{ bos_token }}{% if tools %}{{ '<|im_start|>system\nList of tools: <|tool_list_start|>' }}{{ tools | tojson }}"
    "{{ '<|tool_list_end|><|im_end|>\n' }}{% endif %}"
)

# Writes texts in single quotes, and leaves what stands in them as it is.
LFM2 = (
    _LFM2_TOOLS + "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}{{ message.content or '' }}"
    "{% if message.tool_calls %}{{ '<|tool_call_start|>[' }}{% for call in message.tool_calls %}"
    "{{ call.function.name + '(' }}{% for name, value in call.function.arguments.items() %}"
    """{{ name + '=' }}{{ "'" + value + "'" if value is string else value | string }}{{ ', ' if not loop.last }}"""
    "{% endfor %}{{ ')' }}{{ ', ' if not loop.last }}{% endfor %}{{ ']<|tool_call_end|>' }}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}" + _OPENS
)

# An older one, which writes no calls.
LFM2_OLD = (
    _LFM2_TOOLS + "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}"
    "{% if message.role == 'tool' %}{{ '<|tool_response_start|>' + message.content + '<|tool_response_end|>' }}"
    "{% else %}{{ message.content }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}" + _OPENS
)

OLMO3 = (
    "{% if tools %}{{ '<|im_start|>system\n<functions>' }}{{ tools | tojson }}"
    "{{ '</functions><|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}{{ message.content or '' }}"
    "{% if message.tool_calls %}{{ '<function_calls>\n' }}{% for call in message.tool_calls %}"
    "{{ call.function.name + '(' }}{% for name, value in call.function.arguments.items() %}"
    "{{ name + '=' }}{{ value | tojson }}{{ ', ' if not loop.last }}{% endfor %}{{ ')' }}{{ '\n' if not loop.last }}"
    "{% endfor %}{{ '\n</function_calls>' }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}" + _OPENS
)

_TAGGED_ARGUMENTS = (
    "{% for name, value in call.function.arguments.items() %}{{ BEFORE + name + AFTER }}"
    "{{ value if value is string else value | tojson }}{{ END }}{% endfor %}"
)

QWEN_XML = (
    "{% if tools %}{{ '<|im_start|>system\n<tools>' }}{% for tool in tools %}{{ '\n' }}{{ tool | tojson }}{% endfor %}"
    "{{ '\n</tools>\n<tool_call>\n<function=f>\n<parameter=p>\nv\n</parameter>\n</function>\n</tool_call>' }}"
    "{{ '<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}{% if message.role == 'tool' %}"
    "{{ '<|im_start|>user\n<tool_response>\n' + message.content + '\n</tool_response><|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' + message.role + '\n' }}{{ message.content or '' }}"
    "{% for call in message.tool_calls %}{{ '\n<tool_call>\n<function=' + call.function.name + '>\n' }}"
    + _TAGGED_ARGUMENTS.replace("BEFORE", "'<parameter='")
    .replace("AFTER", "'>\n'")
    .replace("END", "'\n</parameter>\n'")
    + "{{ '</function>\n</tool_call>' }}{% endfor %}{{ '<|im_end|>\n' }}{% endif %}{% endfor %}"
    + _OPENS
)

GLM = (
    "[gMASK]<sop>{% if tools %}{{ '<|system|>\n<tools>' }}{{ tools | tojson }}{{ '</tools>' }}{% endif %}"
    "{% for message in messages %}{% if message.role == 'tool' %}"
    "{{ '<|observation|>\n<tool_response>\n' + message.content + '\n</tool_response>' }}"
    "{% else %}{{ '<|' + message.role + '|>\n' }}{{ message.content or '' }}{% for call in message.tool_calls %}"
    "{{ '\n<tool_call>' + call.function.name + '\n' }}"
    + _TAGGED_ARGUMENTS.replace("BEFORE", "'<arg_key>'")
    .replace("AFTER", "'</arg_key>\n<arg_value>'")
    .replace("END", "'</arg_value>\n'")
    + "{{ '</tool_call>' }}{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

MINIMAX = (
    "{% if tools %}{{ ']~b]system\n<tools>' }}{{ tools | tojson }}{{ '</tools>[e~[\n' }}{% endif %}"
    "{% for message in messages %}{{ ']~b]' + message.role + '\n' }}{{ message.content or '' }}"
    "{% if message.tool_calls %}{{ '\n<minimax:tool_call>\n' }}{% for call in message.tool_calls %}"
    "{{ '<invoke name=\"' + call.function.name + '\">\n' }}"
    + _TAGGED_ARGUMENTS.replace("BEFORE", "'<parameter name=\"'")
    .replace("AFTER", "'\">'")
    .replace("END", "'</parameter>\n'")
    + "{{ '</invoke>\n' }}{% endfor %}{{ '</minimax:tool_call>' }}{% endif %}{{ '[e~[\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ ']~b]ai\n<think>\n' }}{% endif %}"
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
    "pythonic": (PYTHONIC, "pythonic", "tools"),
    "pythonic-quoted": (PYTHONIC_QUOTED, "pythonic", "tools"),
    "functiongemma": (FUNCTIONGEMMA, "functiongemma", "tools"),
    "gemma4": (GEMMA4, "gemma4", "tools"),
    "lfm2": (LFM2, "lfm2", "tools"),
    "lfm2-old": (LFM2_OLD, "lfm2", "tools"),
    "olmo3": (OLMO3, "olmo3", "tools"),
    "qwen-xml": (QWEN_XML, "qwen-xml", "tools"),
    "glm": (GLM, "glm", "tools"),
    "minimax": (MINIMAX, "minimax", "tools"),
    "chatml": (CHATML, "hermes", "told"),
}
"""Each with the format in which it writes calls, and how it is shown tools."""
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
