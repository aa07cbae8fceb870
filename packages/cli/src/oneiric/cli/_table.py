"""Every command and the line about it in the help, which no module has to be loaded for."""

from typing import Final

__all__ = ["COMMANDS", "GROUPS"]

#: Command, or group of commands, in the order of the help.
COMMANDS: Final = {
    "demo": "Swap a cache under load and count what is lost: nothing.",
    "init": "Write a commented starter project.",
    "orchestrate": "Run the application until SIGTERM or SIGINT, or show what it would run.",
    "list": "List what is active.",
    "explain": "Explain why a key resolves as it does.",
    "status": "Show what runs; where nothing does, what is configured.",
    "health": "Report health as it was last seen, or ask for it.",
    "plugins": "Show what discovery found, and what it left out and why.",
    "config": "Show, explain and check the settings.",
    "activity": "List the keys that are paused or draining.",
    "pause": "Refuse new work for a key, at once.",
    "drain": "Refuse new work for a key and let what it has finish.",
    "swap": "Replace what serves for a key, without dropping a call.",
    "retire": "Stop serving for a key: drain and clean up what serves.",
    "secrets": "Rotate secrets.",
    "remote-sync": "Put in force what the publisher offers now; where nothing runs, verify and store it.",
    "remote-status": "Show how remote delivery stands: versions, age, the last refusal.",
    "manifest": "Author, sign, verify and compare manifests.",
    "root": "Say whose keys are trusted, and rotate them.",
    "supervisor-info": "Describe the supervised services: state, restarts, escalations.",
    "decisions": "Tell what was decided, when and why.",
    "events": "Follow what happens, until it is interrupted.",
    "event": "Emit and explain events; list and replay what was not taken.",
    "workflow": "Plan, run and queue workflows; show, resume, retry and cancel their runs.",
    "schedule": "Have things done at certain times; list, preview, pause and remove schedules.",
    "worker": "Do the tasks and workflows of a queue until SIGTERM.",
}

#: Group → its commands. Each is a module in the package of the group's name.
GROUPS: Final = {
    "config": {
        "show": "Show the settings, and where each of them comes from.",
        "explain": "Explain one setting: its value, where that comes from, and what else it could be.",
        "validate": "Check the settings, and those of every provider that is configured.",
        "plan": "Show what a reload would change, and which keys it would swap.",
    },
    "manifest": {
        "keygen": "Make a key to sign with; never over an old one.",
        "pack": "Write the canonical body of a manifest from YAML or JSON.",
        "sign": "Put a packed manifest into a signed envelope, or add a signature to one.",
        "freshness": "Sign which manifest is current, for a day at most.",
        "verify": "Verify a signed manifest as a client would.",
        "inspect": "Show what a file says of itself; nothing of it is verified.",
        "export": "Write what is registered here as a manifest to author from.",
        "diff": "Compare two manifests entry by entry.",
    },
    "root": {
        "init": "Write the first root document.",
        "rotate": "Write the next root document.",
        "sign": "Add signatures to a root document.",
    },
    "event": {
        "emit": "Give an event to the handlers it concerns, in this process.",
        "explain": "Say which handlers an event would run, and what keeps it from the others; runs nothing.",
        "dead-letters": "List what was not taken, why, and by whom.",
        "replay": "Give dead letters again to the handlers that did not take them, in this process.",
    },
    "workflow": {
        "plan": "Show what a run of a workflow runs; runs nothing.",
        "run": "Run a workflow in this process; interrupted, it can be resumed.",
        "enqueue": "Have a run begun by whoever works off the queue.",
        "runs": "List the runs that are kept, the newest first.",
        "show": "Show a run with its nodes: states, times, results.",
        "resume": "Go on with a run that was interrupted, failed or was cancelled, in this process.",
        "cancel": "Cancel a run: at once where nobody runs it, else when the process that does next writes.",
        "retry": "Run a node of a run, and all that depends on it, again, in this process.",
    },
    "schedule": {
        "add": "Have something done at certain times: by --cron, --every or --at.",
        "list": "List the schedules, when each fires next, and what became of the last slot.",
        "preview": "Show when a schedule fires next: what is listed is what then fires.",
        "pause": "Let the slots of a schedule pass without firing, until it is resumed.",
        "resume": "Fire the slots of a schedule again, from now on.",
        "remove": "Forget a schedule; what it is doing goes on.",
    },
    "secrets": {
        "rotate": "Read secrets anew and swap what uses them, all or none.",
    },
}
