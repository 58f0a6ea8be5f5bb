"""The assistant: questions answered from fresh posts, with sources; see assistant.py."""

from agora.chat.assistant import Assistant, AssistantConfig
from agora.chat.events import Caution, ChatEvent, Citation, Done, Reply, Said, Step, Text, event_as_json
from agora.chat.personas import Persona, Personas

__all__ = [
    "Assistant", "AssistantConfig", "Caution", "ChatEvent", "Citation", "Done", "Persona", "Personas", "Reply", "Said", "Step", "Text",
    "event_as_json",
]  # fmt: skip
