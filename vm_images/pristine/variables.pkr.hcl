variable "macos" {
  type        = string
  description = "macOS version: 13, 14, 15 or 26."

  validation {
    condition     = contains(["13", "14", "15", "26"], var.macos)
    error_message = "The harness knows macOS 13, 14, 15 and 26."
  }
}

variable "base_image" {
  type        = string
  description = "A vanilla image: Setup Assistant done, Remote Login on, SIP not touched."
}

variable "vm_name" {
  type        = string
  description = "What the lane's image will be called; must not exist yet."
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
  type        = string
  default     = "1920x1080px"
  description = "In px: in points the host's own screen would decide the scale."
}

variable "gatekeeper" {
  type        = string
  default     = "on"
  description = "on: assessments as users have them (vanilla images switch them off); as-is: leave it."

  validation {
    condition     = contains(["on", "as-is"], var.gatekeeper)
    error_message = "Gatekeeper is either \"on\" or \"as-is\"."
  }
}
