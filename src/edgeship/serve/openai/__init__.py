"""The APIs of OpenAI: chat completions, completions, responses, models; and vLLM's words for tokens."""
