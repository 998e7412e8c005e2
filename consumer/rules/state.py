"""By which rules a worker decides, said where it is not simply those of the files."""

from dataclasses import dataclass

from consumer.rules.specification import Mode

_TURNED_DOWN = {
    Mode.SHADOW: "scores alone: the rules are in shadow",
    Mode.OFF: "scores alone: the rules are off",
}


@dataclass(slots=True)
class RulesState:
    """
    What an operator has to know of the rules of one worker.

    ``mode`` is that of the set in force, ``copy`` names the last good copy it was restored
    from, ``tripped`` is the hash of the set that tripped; both empty where there is none.
    ``refused``: the files hold a version that cannot be used.
    """

    mode: Mode = Mode.LIVE
    copy: str = ""
    tripped: str = ""
    refused: bool = False

    def note(self) -> str:
        """What it "decides by", the most surprising first; empty for the files as they are."""
        notes = [_TURNED_DOWN[self.mode]] if self.mode in _TURNED_DOWN else []
        if self.copy:
            notes.append(f"the {self.copy}")
        elif self.refused:
            notes.append("the version before: the files are refused")
        if self.tripped:
            notes.append(f"the version before: {self.tripped} tripped")
        return "; ".join(notes)
