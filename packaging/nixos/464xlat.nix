# NixOS module: imports = [ ./464xlat.nix ]; services.clat.enable = true;
# `package` has bin/clat and bin/plat: packaging/nixos/package.nix builds it from the source.
{ config, lib, pkgs, ... }:
let
  toml = pkgs.formats.toml { };
  package = pkgs.callPackage ./package.nix { };

  options = name: {
    enable = lib.mkEnableOption "${name} of 464XLAT";
    package = lib.mkOption {
      type = lib.types.package;
      default = package;
      description = "The package with ${name}.";
    };
    settings = lib.mkOption {
      type = toml.type;
      default = { };
      example = { prefix = "2001:db8:64::/96"; };
      description = "Keys of ${name}.toml(5): the names of the flags.";
    };
  };

  # The unit that comes with the source, with our places.
  service = name: extra:
    let
      cfg = config.services.${name};
      file = toml.generate "${name}.toml" cfg.settings;
    in
    lib.mkIf cfg.enable {
      environment.systemPackages = [ cfg.package ];
      environment.etc."${name}.toml".source = file;
      systemd.packages = [ cfg.package ];
      systemd.services.${name} = lib.mkMerge [
        {
          wantedBy = [ "multi-user.target" ];
          serviceConfig.ExecStart = [ "" "${cfg.package}/bin/${name} --config /etc/${name}.toml" ];
        }
        (extra cfg file)
      ];
    };
in
{
  options.services.clat = options "clat";
  options.services.plat = options "plat";

  config = lib.mkMerge [
    (service "clat" (_: file: {
      restartTriggers = [ file ];
    }))
    # A changed file is read again: sessions stay.
    (service "plat" (cfg: file: {
      reloadTriggers = [ file ];
      serviceConfig.ExecReload = [ "" "${cfg.package}/bin/plat reload" ];
    }))
  ];
}
