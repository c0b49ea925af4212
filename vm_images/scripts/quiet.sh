#!/bin/bash
# Nothing but the product under test may open a window, change the picture or put the Mac to sleep.
set -euo pipefail

# Sleep, screen saver, lock.
sudo pmset -a sleep 0 displaysleep 0 disksleep 0
sudo systemsetup -setsleep Off >/dev/null 2>&1 || true
defaults -currentHost write com.apple.screensaver idleTime -int 0

# Updates, and the windows that announce them.
sudo softwareupdate --schedule off
sudo defaults write /Library/Preferences/com.apple.SoftwareUpdate AutomaticCheckEnabled -bool false
sudo defaults write /Library/Preferences/com.apple.SoftwareUpdate AutomaticDownload -bool false
sudo defaults write /Library/Preferences/com.apple.SoftwareUpdate CriticalUpdateInstall -bool false
sudo defaults write /Library/Preferences/com.apple.commerce AutoUpdate -bool false

# No window of yesterday comes back.
defaults write -g NSQuitAlwaysKeepsWindows -bool false
defaults write com.apple.loginwindow TALLogoutSavesState -bool false
defaults write com.apple.loginwindow LoginwindowLaunchesRelaunchApps -bool false
defaults write com.apple.WindowManager StandardHideWidgets -bool true
defaults write com.apple.CrashReporter DialogType -string none

# What is typed over VNC stays as it was typed.
defaults write -g NSAutomaticSpellingCorrectionEnabled -bool false
defaults write -g NSAutomaticCapitalizationEnabled -bool false
defaults write -g NSAutomaticPeriodSubstitutionEnabled -bool false
defaults write -g NSAutomaticQuoteSubstitutionEnabled -bool false

# English: the page objects read English. A lane in another language is an image of its own.
defaults write -g AppleLanguages -array en
defaults write -g AppleLocale -string en_US

# Setup Assistant has nothing more to say after a login.
build=$(sw_vers -buildVersion)
product=$(sw_vers -productVersion)
defaults write com.apple.SetupAssistant LastSeenBuddyBuildVersion -string "$build"
defaults write com.apple.SetupAssistant LastSeenCloudProductVersion -string "$product"
defaults write com.apple.SetupAssistant DidSeeCloudSetup -bool true

# Vanilla images switch Gatekeeper's assessments off; users have them on.
if [ "${SYSEXT_GATEKEEPER:-on}" = on ]; then
    sudo spctl --global-enable 2>/dev/null || sudo spctl --master-enable
    spctl --status | grep -q enabled || { echo "Gatekeeper is still off" >&2; exit 1; }
fi
