# The program, from this checkout. Parsed by nix-instantiate; not built on NixOS yet.
{ python3Packages }:

python3Packages.buildPythonApplication {
  pname = "f2b-digest";
  version = "0.1.0";
  pyproject = true;
  src = ../..;
  build-system = with python3Packages; [
    hatchling
    hatch-fancy-pypi-readme
  ];
  dependencies = with python3Packages; [
    babel
    click
    ifaddr
    jinja2
    maxminddb
    pydantic
    tzdata
    tzlocal
    urllib3
  ];
  doCheck = false; # the tests want fail2ban, mail servers and a browser
}
