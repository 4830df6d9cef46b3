defmodule Pythonx.Requirements.VersionTest do
  use ExUnit.Case, async: true

  alias Pythonx.Requirements.{Requirement, Version}

  test "versions are in the order of PEP 440" do
    versions =
      ~w(1.dev0 1.0.dev456 1.0a1 1.0a2.dev456 1.0a12.dev456 1.0a12 1.0b1.dev456 1.0b2 1.0b2.post345.dev456 1.0b2.post345
                  1.0rc1.dev456 1.0rc1 1.0 1.0.post456.dev34 1.0.post456 1.0.15 1.1.dev1 1!0.5)

    keys = for version <- versions, do: version |> Version.parse() |> elem(1)
    assert Enum.sort(keys) == keys
    assert length(Enum.uniq(keys)) == length(keys)
  end

  test "one version can be written in several ways" do
    for {one, other} <- [
          {"1.0", "1.0.0"},
          {"1.0", "v1"},
          {"1.0RC1", "1.0-c.1"},
          {"1.0-1", "1.0.post1"},
          {"1.0.POST", "1.0.post0"}
        ] do
      assert Version.parse(one) == Version.parse(other)
    end

    assert Version.parse("latest") == :error
    assert Version.parse("") == :error
  end

  for {version, specifier, matches?} <- [
        {"3.1.6", ">=3.1", true},
        {"3.1.6", ">=3.1,<3.1.6", false},
        {"3.1.6", "==3.1.*", true},
        {"3.10", "==3.1.*", false},
        {"3.1", "==3.1.0", true},
        {"3.1.6", "~=3.1", true},
        {"4.0", "~=3.1", false},
        {"3.2.0", "~=3.1.2", false},
        {"2.0rc1", "<2.0", false},
        {"2.0rc1", "<2.0rc2", true},
        {"2.0.post1", ">2.0", false},
        {"2.0.post1", ">=2.0", true},
        {"2.0+cu121", "==2.0", true},
        {"2.0", "==2.0+cu121", false},
        {"2.1", "!=2.0.*", true},
        {"2.0.1", "!=2.0.*", false},
        {"1.0", "===1.0", true},
        {"1.0", "", true},
        {"1.0", "=>1", :error},
        {"1.0", ">=one", :error}
      ] do
    test "#{version} and #{specifier}" do
      assert Version.match?(unquote(version), unquote(specifier)) == unquote(matches?)
    end
  end

  test "a requirement is met by what is installed, or uv is asked" do
    installed = %{"jinja2" => "3.1.6", "ruamel-yaml" => "0.18"}
    assert Requirement.met?("jinja2>=3.1", installed)
    assert Requirement.met?("Jinja2", installed)
    assert Requirement.met?("ruamel.yaml (>=0.17, <1)", installed)
    refute Requirement.met?("jinja2<3", installed)
    refute Requirement.met?("markupsafe", installed)

    for text <- ["jinja2[i18n]>=3", "jinja2>=3; python_version < '3.14'", "jinja2 @ https://example.com/j.whl", "!"] do
      assert Requirement.met?(text, installed) == :unknown
    end
  end
end
