# Lane *pristine*: autologin, quiet, English, known display. SIP on, no grant, no approval: what a user's Mac is like.
packer {
  required_version = ">= 1.9.0"
  required_plugins {
    tart = {
      version = ">= 1.16.0"
      source  = "github.com/cirruslabs/tart"
    }
  }
}

source "tart-cli" "pristine" {
  vm_base_name       = var.base_image
  vm_name            = var.vm_name
  cpu_count          = 4
  memory_gb          = 8
  display            = var.display
  headless           = true
  recovery_partition = "keep" # the instrumented lane switches SIP from there
  ssh_username       = var.ssh_username
  ssh_password       = var.ssh_password
  ssh_timeout        = "10m"
}

build {
  sources = ["source.tart-cli.pristine"]

  provisioner "file" {
    source      = "${path.root}/../scripts/"
    destination = "/private/tmp"
  }

  provisioner "shell" {
    # With a file, for the default puts them into the command line of the guest's shell.
    use_env_var_file = true
    environment_vars = [
      "SYSEXT_USER=${var.ssh_username}",
      "SYSEXT_PASSWORD=${var.ssh_password}",
      "SYSEXT_GATEKEEPER=${var.gatekeeper}",
    ]
    scripts = [
      "${path.root}/../scripts/autologin.sh",
      "${path.root}/../scripts/quiet.sh",
    ]
  }

  provisioner "shell" {
    inline            = ["sudo shutdown -r now"]
    expect_disconnect = true
  }

  provisioner "shell" {
    pause_before     = "60s"
    use_env_var_file = true
    environment_vars = [
      "SYSEXT_LANE=pristine",
      "SYSEXT_MACOS=${var.macos}",
      "SYSEXT_USER=${var.ssh_username}",
      "SYSEXT_DISPLAY=${var.display}",
    ]
    scripts = ["${path.root}/../scripts/check-lane.sh"]
  }
}
