"""`agentd chat`: a person's conversation with an agent, at the terminal.

Imports point down: `command` · `listing` · `loop` · `commands` (`views`, `changes`) · `talk` · `forgetting`,
`pictures` · `kept`, `attachments`, `typed`.
"""
