# A NixOS module: the action in the jails that are named, a configuration, and timers. Parsed by nix-instantiate; not run
# on NixOS yet.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.services.f2b-digest;
  toml = pkgs.formats.toml { };
  folder = "/var/lib/fail2ban/f2b-digest";
  program = "${cfg.package}/bin/f2b-digest --config /etc/f2b-digest/config.toml";
  service = command: {
    after = [ "network-online.target" ];
    wants = [ "network-online.target" ];
    path = [
      config.services.fail2ban.package
      pkgs.util-linux
    ];
    serviceConfig = {
      Type = "oneshot";
      ExecStart = "${program} ${command}"; # as root: it looks at fail2ban, then becomes the folder's owner
      PrivateTmp = true;
      ProtectHome = "read-only";
    };
  };
in
{
  options.services.f2b-digest = {
    enable = lib.mkEnableOption "digests of what fail2ban banned";
    package = lib.mkOption {
      type = lib.types.package;
      default = pkgs.callPackage ./package.nix { };
      description = "The program.";
    };
    jails = lib.mkOption {
      type = lib.types.listOf lib.types.str;
      default = [ "sshd" ];
      description = "The jails whose bans are recorded.";
    };
    settings = lib.mkOption {
      type = toml.type;
      example = {
        reports.daily.channels = [ "mail" ];
        channels.mail = {
          kind = "email";
          from = "fail2ban@web1.example.org";
          to = [ "admin@example.org" ];
        };
      };
      description = "The configuration. Secrets belong into files that it names.";
    };
    reports = lib.mkOption {
      type = lib.types.attrsOf lib.types.str;
      default = {
        daily = "daily";
      };
      description = "When each report is sent, as in systemd.time(7).";
    };
  };

  config = lib.mkIf cfg.enable {
    environment.systemPackages = [ cfg.package ];
    environment.etc = {
      "f2b-digest/config.toml".source = toml.generate "f2b-digest.toml" cfg.settings;
      "fail2ban/action.d/f2b-digest.py".source = ../../action.d/f2b-digest.py;
    };
    users.users.f2b-digest = {
      isSystemUser = true;
      group = "f2b-digest";
    };
    users.groups.f2b-digest = { };
    systemd.tmpfiles.rules = [ "d ${folder} 0750 f2b-digest f2b-digest -" ];
    services.fail2ban.jails = lib.genAttrs cfg.jails (_: {
      settings.action = ''
        %(action_)s
                 f2b-digest.py[dbpath="${folder}/bans.sqlite3"]'';
    });
    systemd.services = {
      f2b-digest-retry = service "retry";
    }
    // lib.mapAttrs' (name: _: lib.nameValuePair "f2b-digest-send-${name}" (service "send ${name}")) cfg.reports;
    systemd.timers = {
      f2b-digest-retry = {
        wantedBy = [ "timers.target" ];
        timerConfig.OnCalendar = "*:0/10";
      };
    }
    // lib.mapAttrs' (
      name: when:
      lib.nameValuePair "f2b-digest-send-${name}" {
        wantedBy = [ "timers.target" ];
        timerConfig = {
          OnCalendar = when;
          Persistent = true;
        };
      }
    ) cfg.reports;
  };
}
