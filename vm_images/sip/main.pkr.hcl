# Switches SIP in Recovery, on a clone. Typed blind, with waits: what came of it is checked by the next template, never here.
packer {
  required_version = ">= 1.9.0"
  required_plugins {
    tart = {
      version = ">= 1.16.0"
      source  = "github.com/cirruslabs/tart"
    }
  }
}

variable "vm_base_name" {
  type        = string
  description = "The local image to start from; it must have kept its recovery partition."
}

variable "vm_name" {
  type        = string
  description = "The clone with the other SIP state."
}

variable "sip" {
  type        = string
  description = "disable or enable."

  validation {
    condition     = contains(["disable", "enable"], var.sip)
    error_message = "SIP is switched by \"disable\" or \"enable\"."
  }
}

variable "recovery_asks_user" {
  type        = bool
  description = "macOS 15 and 26 ask for the user's name first."
}

variable "ssh_username" {
  type    = string
  default = "admin"
}

variable "ssh_password" {
  type        = string
  sensitive   = true
  description = "Unshifted ASCII only: it is typed over VNC. Give it as PKR_VAR_ssh_password."

  validation {
    condition     = can(regex("^[a-z0-9-]+$", var.ssh_password))
    error_message = "Only a-z, 0-9 and - can be typed reliably in Recovery."
  }
}

locals {
  authorise = var.recovery_asks_user ? ["<wait10s>${var.ssh_username}<enter>"] : []
}

source "tart-cli" "sip" {
  vm_base_name       = var.vm_base_name
  vm_name            = var.vm_name
  recovery           = true
  recovery_partition = "keep"
  headless           = true
  communicator       = "none"
  boot_key_interval  = "100ms"
  boot_command = concat(
    [
      "<wait60s><right><right><enter>",    # Options
      "<wait10s><leftAltOn>T<leftAltOff>", # Command-Shift-T: Terminal
      "<wait10s>csrutil ${var.sip}<enter>",
      "<wait10s>y<enter>",
    ],
    local.authorise,
    [
      "<wait10s>${var.ssh_password}<enter>",
      "<wait30s>halt<enter>", # from inside, so that the NVRAM is written before the machine goes
    ],
  )
}

build {
  sources = ["source.tart-cli.sip"]
}
