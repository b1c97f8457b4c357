"""Chat templates with the structure of the families people fine-tune, written for these tests."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Family:
    """A template, its special tokens, and the parts that a person would write down for it."""

    template: str
    system: str | None
    user: str
    assistant: str
    prompt: str
    opening: str = ""
    tokens: dict[str, str] = field(default_factory=dict)


CHATML_USER = "<|im_start|>user\n{Content}<|im_end|>\n"
CHATML_ASSISTANT = "<|im_start|>assistant\n{Content}<|im_end|>\n"
QWEN25_OPENING = "<|im_start|>system\nYou are a careful assistant.<|im_end|>\n"

QWEN25 = """
{%- if tools %}
    {{- '<|im_start|>system\\n# Tools\\n' }}
    {%- for tool in tools %}{{ tool | tojson }}{% endfor %}
    {{- '<|im_end|>\\n' }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are a careful assistant.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first)
           or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

QWEN3 = """
{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(last_query=messages | length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages | length - 1) - loop.index0 %}
    {%- if message.role == "user" %}
        {%- set ns.last_query = index %}
        {%- break %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set content = message.content %}
        {%- set thought = '' %}
        {%- if '</think>' in content %}
            {%- set thought = content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query %}
            {{- '<|im_start|>assistant\\n<think>\\n' + thought + '\\n</think>\\n\\n' + content }}
        {%- else %}
            {{- '<|im_start|>assistant\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""

LLAMA3 = (
    "{% for message in messages %}"
    "{% set turn = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' "
    "+ message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set turn = bos_token + turn %}{% endif %}"
    "{{ turn }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)

GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'assistant' %}{% set role = 'model' %}"
    "{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)

PHI3 = (
    "{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ '<|system|>\n' + message['content'] + '<|end|>\n' }}"
    "{% elif message['role'] == 'user' %}{{ '<|user|>\n' + message['content'] + '<|end|>\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ '<|assistant|>\n' + message['content'] + '<|end|>\n' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)

MISTRAL = (
    "{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content'] %}"
    "{%- set turns = messages[1:] %}{%- else %}{%- set turns = messages %}{%- endif %}"
    "{{- bos_token }}{%- for message in turns %}{%- if message['role'] == 'user' %}"
    "{%- if loop.first and system is defined %}"
    "{{- '[INST] ' + system + '\n\n' + message['content'] + '[/INST]' }}"
    "{%- else %}{{- '[INST] ' + message['content'] + '[/INST]' }}{%- endif %}"
    "{%- elif message['role'] == 'assistant' %}{{- ' ' + message['content'] + eos_token }}"
    "{%- else %}{{- raise_exception('Only user and assistant are supported') }}{%- endif %}{%- endfor %}"
)

BRACKETS = {"bos_token": "<s>", "eos_token": "</s>"}
LLAMA3_USER = "<|start_header_id|>user<|end_header_id|>\n\n{Content}<|eot_id|>"
LLAMA3_OPENS = "<|start_header_id|>assistant<|end_header_id|>\n\n"
GEMMA_USER = "<start_of_turn>user\n{Content}<end_of_turn>\n"

FAMILIES = {
    "qwen2.5": Family(
        QWEN25,
        "<|im_start|>system\n{Content}<|im_end|>\n",
        CHATML_USER,
        CHATML_ASSISTANT,
        CHATML_USER + "<|im_start|>assistant\n",
        QWEN25_OPENING,
    ),
    "qwen3": Family(
        QWEN3,
        "<|im_start|>system\n{Content}<|im_end|>\n",
        CHATML_USER,
        CHATML_ASSISTANT,
        CHATML_USER + "<|im_start|>assistant\n",
    ),
    "llama3": Family(
        LLAMA3,
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{Content}<|eot_id|>",
        LLAMA3_USER,
        LLAMA3_OPENS + "{Content}<|eot_id|>",
        LLAMA3_USER + LLAMA3_OPENS,
        "<|begin_of_text|>",
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
    ),
    "gemma": Family(
        GEMMA,
        None,
        GEMMA_USER,
        "<start_of_turn>model\n{Content}<end_of_turn>\n",
        GEMMA_USER + "<start_of_turn>model\n",
        "<bos>",
        {"bos_token": "<bos>", "eos_token": "<eos>"},
    ),
    "phi3": Family(
        PHI3,
        "<|system|>\n{Content}<|end|>\n",
        "<|user|>\n{Content}<|end|>\n",
        "<|assistant|>\n{Content}<|end|>\n",
        "<|user|>\n{Content}<|end|>\n<|assistant|>\n",
        tokens={"bos_token": "<s>", "eos_token": "<|endoftext|>"},
    ),
    "mistral": Family(
        MISTRAL,
        None,
        "[INST] {Content}[/INST]",
        " {Content}</s>",
        "[INST] {Content}[/INST]",
        "<s>",
        BRACKETS,
    ),
}

GEMMA3 = """{{ bos_token }}
{%- for message in messages -%}
    {{ '<start_of_turn>' + message['role'] + '\\n' }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}
                {{ '<start_of_image>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}
"""

# Reads texts too, but in parts alone: a text that is no part is left out.
LLAMA32_VISION = (
    "{{ bos_token }}{% if tools %}{% for tool in tools %}{{ tool | tojson(indent=4) }}{% endfor %}{% endif %}"
    "{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{% for content in message['content'] %}{% if content['type'] == 'text' %}{{ content['text'] }}{% endif %}"
    "{% endfor %}{{ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)

READ_PARTS = {"gemma3": GEMMA3, "llama3.2-vision": LLAMA32_VISION}
"""Templates that read a content's parts."""

INST = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)

SMOLLM3 = """
{%- if messages[0].role == 'system' -%}
    {%- set system = messages[0].content.replace("/no_think", "").replace("/think", "").rstrip() -%}
    {{- '<|im_start|>system\\n' + system + '<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
    {%- if message.role != 'system' -%}
        {%- set content = message.content if message.content is string else "" -%}
        {{- '<|im_start|>' + message.role + '\\n' + content | string + '<|im_end|>\\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n' -}}
{%- endif -%}
"""

TRIMMED = """{% for message in messages %}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{% endif %}
"""

OTHERWISE = {"smollm3": SMOLLM3, "trimmed": TRIMMED, "qwen3": QWEN3}
"""What onnxruntime-genai's renderer refuses or renders otherwise: a method, line ends around blocks, `in` for texts."""

UNSAYABLE = (
    "{% for m in messages %}{{ '<|im_start|>%s\n' % m.role }}{{ '{}<|im_end|>'.format(m.content) }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""What it refuses, and cannot be said otherwise."""
