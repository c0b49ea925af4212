# Lane *instrumented*: pristine, plus grants for SSH sessions (Accessibility, events, screen, System Events), written while
# SIP was off. SIP is on again in the finished image. Still no approval of any extension.
packer {
  required_version = ">= 1.9.0"
  required_plugins {
    tart = {
      version = ">= 1.16.0"
      source  = "github.com/cirruslabs/tart"
    }
  }
}

locals {
  steps = {
    grant = ["tcc.sh", "automation-mode.sh"]
    check = ["check-lane.sh"]
  }
}

source "tart-cli" "instrumented" {
  vm_base_name       = var.vm_base_name
  vm_name            = var.vm_name
  display            = var.display
  headless           = true
  recovery_partition = "keep"
  ssh_username       = var.ssh_username
  ssh_password       = var.ssh_password
  ssh_timeout        = "10m"
}

build {
  sources = ["source.tart-cli.instrumented"]

  provisioner "shell" {
    use_env_var_file = true
    environment_vars = [
      "SYSEXT_LANE=instrumented",
      "SYSEXT_MACOS=${var.macos}",
      "SYSEXT_USER=${var.ssh_username}",
      "SYSEXT_PASSWORD=${var.ssh_password}",
      "SYSEXT_DISPLAY=${var.display}",
    ]
    scripts = [for name in local.steps[var.phase] : "${path.root}/../scripts/${name}"]
  }
}
