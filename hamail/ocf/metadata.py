"""The meta-data XML of an agent: valid against the OCF 1.1 RelaxNG schema and the older DTD alike."""

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

if TYPE_CHECKING:
    from hamail.ocf.agent import Action, Agent
    from hamail.ocf.parameters import Parameter

STANDARD = "1.1"


def render(agent: "Agent") -> str:
    lines = [
        '<?xml version="1.0"?>',
        '<!DOCTYPE resource-agent SYSTEM "ra-api-1.dtd">',
        f"<resource-agent name={quoteattr(agent.name)} version={quoteattr(agent.version)}>",
        f"<version>{STANDARD}</version>",
        f'<longdesc lang="en">{escape(agent.long)}</longdesc>',
        f'<shortdesc lang="en">{escape(agent.short)}</shortdesc>',
        "<parameters>",
        *(line for p in agent.parameters for line in _parameter(p)),
        "</parameters>",
        "<actions>",
        *(_action(name, a) for name, a in agent.advertised()),
        "</actions>",
        "</resource-agent>",
    ]
    return "\n".join(lines) + "\n"


def _parameter(parameter: "Parameter") -> list[str]:
    # `unique` is the 1.0 spelling; 1.1 readers accept it and 1.0 readers know nothing else
    default = "" if parameter.default is None else f" default={quoteattr(parameter.default)}"
    long = parameter.long or parameter.short
    if parameter.choices:
        long += f" One of: {', '.join(parameter.choices)}."
    return [
        f"<parameter name={quoteattr(parameter.name)} unique={_flag(parameter.unique)} "
        f"required={_flag(parameter.required)}>",
        f'<longdesc lang="en">{escape(long)}</longdesc>',
        f'<shortdesc lang="en">{escape(parameter.short)}</shortdesc>',
        f"<content type={quoteattr(parameter.kind.value)}{default}/>",
        "</parameter>",
    ]


def _action(name: str, action: "Action") -> str:
    depth = "" if action.depth is None else f' depth="{action.depth}"'
    interval = "" if action.interval_s is None else f' interval="{action.interval_s}s"'
    return f'<action name={quoteattr(name)}{depth} timeout="{action.timeout_s}s"{interval}/>'


def _flag(value: bool) -> str:
    return '"1"' if value else '"0"'
