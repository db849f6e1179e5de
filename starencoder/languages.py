"""The language of a source file, by its name."""

from pathlib import PurePath

LANGUAGE_COLUMNS = ("lang", "language", "programming_language")
"""Of shards: The Stack's, StarCoderData's and others'; the first that is there is the one."""

_BY_SUFFIX = {
    ".c": "C", ".h": "C", ".cc": "C++", ".cpp": "C++", ".hpp": "C++", ".cxx": "C++", ".cs": "C#",
    ".java": "Java", ".go": "Go", ".rs": "Rust", ".py": "Python", ".rb": "Ruby", ".php": "PHP",
    ".pl": "Perl", ".pm": "Perl", ".t": "Perl", ".js": "JavaScript", ".mjs": "JavaScript",
    ".cjs": "JavaScript", ".jsx": "JavaScript", ".ts": "TypeScript", ".tsx": "TypeScript",
    ".vue": "Vue", ".lua": "Lua", ".hs": "Haskell", ".ml": "OCaml", ".ex": "Elixir",
    ".exs": "Elixir", ".erl": "Erlang", ".hrl": "Erlang", ".r": "R", ".R": "R", ".sh": "Shell",
    ".bash": "Shell", ".ps1": "PowerShell", ".tcl": "Tcl", ".swift": "Swift", ".kt": "Kotlin",
    ".scala": "Scala", ".groovy": "Groovy", ".sql": "SQL", ".html": "HTML", ".htm": "HTML",
    ".css": "CSS", ".scss": "SCSS", ".xml": "XML", ".json": "JSON", ".yml": "YAML",
    ".yaml": "YAML", ".toml": "TOML", ".ini": "INI", ".cfg": "Config", ".conf": "Config",
    ".in": "Config", ".env": "Config", ".example": "Config", ".properties": "Properties",
    ".tf": "HCL", ".ldif": "LDIF", ".md": "Markdown", ".rst": "reStructuredText", ".txt": "Text",
    ".po": "Gettext", ".diff": "Diff", ".patch": "Diff", ".ipynb": "Jupyter", ".proto": "Protobuf",
    ".m4": "M4", ".cmake": "CMake",
}  # fmt: skip
_BY_NAME = {
    "changelog": "Changelog", "ChangeLog": "Changelog", "AUTHORS": "Text", "THANKS": "Text",
    "README": "Text", "copyright": "Text", "METADATA": "Text", "Dockerfile": "Dockerfile",
    "Makefile": "Makefile", "CMakeLists.txt": "CMake",
}  # fmt: skip

LANGUAGES = frozenset(_BY_SUFFIX.values()) | frozenset(_BY_NAME.values())


def language_of(path: PurePath) -> str | None:
    """The language, by file name first and suffix second; None when neither is known."""
    return _BY_NAME.get(path.name) or _BY_SUFFIX.get(path.suffix)
