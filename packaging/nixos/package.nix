# Both programs, with manual pages, completions and units.
{ lib, rustPlatform, installShellFiles, src ? ../.. }:
rustPlatform.buildRustPackage {
  pname = "464xlat";
  version = "0.2.0";
  src = lib.cleanSource src;
  cargoLock.lockFile = ../../Cargo.lock;
  # The tests take network namespaces.
  doCheck = false;
  cargoBuildFlags = [ "--package" "clat" "--package" "plat" ];
  postInstall = ''
    for name in clat plat; do
      install -Dm644 examples/systemd/$name.service $out/lib/systemd/system/$name.service
      substituteInPlace $out/lib/systemd/system/$name.service --replace-fail /usr/local/sbin $out/bin
    done
  '';
  meta = {
    description = "464XLAT: IPv4 for IPv6-only networks (CLAT, NAT64, DNS64)";
    license = with lib.licenses; [ mit asl20 ];
    platforms = lib.platforms.linux;
  };
}
