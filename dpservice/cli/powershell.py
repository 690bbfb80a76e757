"""Completion for PowerShell, which the command line library does not know by itself."""

from __future__ import annotations

import os

from click.shell_completion import CompletionItem, ShellComplete, split_arg_string

_SOURCE = """\
Register-ArgumentCompleter -Native -CommandName %(prog_name)s -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $env:%(complete_var)s = "powershell_complete"
    $env:COMP_LINE = $commandAst.ToString()
    $env:COMP_WORD = $wordToComplete
    %(prog_name)s | ForEach-Object {
        $value, $text = $_ -split "`t", 2
        [System.Management.Automation.CompletionResult]::new($value, $value, 'ParameterValue', $text)
    }
    Remove-Item Env:%(complete_var)s, Env:COMP_LINE, Env:COMP_WORD
}
"""


class PowershellComplete(ShellComplete):
    """Gets the line and the word in it from the environment; answers `value<tab>what it is`."""

    name = "powershell"
    source_template = _SOURCE

    def get_completion_args(self) -> tuple[list[str], str]:
        """Words before the incomplete one, and that."""
        words, incomplete = split_arg_string(os.environ["COMP_LINE"])[1:], os.environ["COMP_WORD"]
        return (words[:-1] if incomplete and words else words), incomplete

    def format_completion(self, item: CompletionItem) -> str:
        """One line; the text is not empty because PowerShell refuses that."""
        return f"{item.value}\t{item.help or item.value}"
