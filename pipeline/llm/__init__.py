"""The one door to language models: everything that talks to a model goes through `client.LLMClient`."""
