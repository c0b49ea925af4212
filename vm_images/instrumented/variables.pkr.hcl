variable "macos" {
  type        = string
  description = "macOS version: 13, 14, 15 or 26."
}

variable "vm_base_name" {
  type        = string
  description = "A clone of the pristine image with SIP off (phase grant) or on again (phase check)."
}

variable "vm_name" {
  type        = string
  description = "What comes out; must not exist yet."
}

variable "phase" {
  type        = string
  description = "grant: write the TCC rows, SIP must be off. check: SIP must be on and the rows still there."

  validation {
    condition     = contains(["grant", "check"], var.phase)
    error_message = "The phase is \"grant\" or \"check\"."
  }
}

variable "ssh_username" {
  type    = string
  default = "admin"
}

variable "ssh_password" {
  type        = string
  sensitive   = true
  description = "Give it as PKR_VAR_ssh_password, so that it is in no command line."
}

variable "display" {
  type    = string
  default = "1920x1080px"
}
