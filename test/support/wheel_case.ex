defmodule Pythonx.WheelCase do
  @moduledoc false
  # For tests of bridges that come as wheels: wheels whose library is a text, and locks that pin them.

  alias Pythonx.Boot.Bridge.Compiler

  @version "0.4.11"

  @doc "Makes a wheel with a tag such as `cp313-cp313-manylinux_2_17_x86_64`. Returns what a lock says of it."
  def wheel!(folder, tag, library, worker \\ nil) do
    File.mkdir_p!(folder)
    file = Path.join(folder, "pythonx_native-#{@version}-#{tag}.whl")
    info = "pythonx_native-#{@version}.dist-info"

    entries = [
      {"pythonx_native/__init__.py", ""},
      {"pythonx_native/bridge.so", library},
      {"pythonx_native/worker", worker},
      {"#{info}/METADATA", "Metadata-Version: 2.1\nName: pythonx-native\nVersion: #{@version}\n"},
      {"#{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: false\nTag: #{tag}\n"}
    ]

    entries = for {_name, content} = entry when content != nil <- entries, do: entry
    record = for {name, content} <- entries, into: "", do: "#{name},sha256=#{digest(content)},#{byte_size(content)}\n"
    entries = entries ++ [{"#{info}/RECORD", record <> "#{info}/RECORD,,\n"}]
    entries = for {name, content} <- entries, do: {String.to_charlist(name), content}
    {:ok, {_name, wheel}} = :zip.create(~c"wheel", entries, [:memory])
    File.write!(file, wheel)
    [library_sha256, worker_sha256] = for content <- [library, worker], do: content && Compiler.sha256(content)

    %{
      tag: tag,
      file: file,
      sha256: Compiler.sha256(wheel),
      library_sha256: library_sha256,
      worker_sha256: worker_sha256
    }
  end

  defp digest(content), do: Base.url_encode64(:crypto.hash(:sha256, content), padding: false)

  @doc "Writes a lock for the sources in a folder, as `make wheels` does."
  def lock!(path, source_dir, wheels) do
    lines =
      ["# sources: #{Compiler.bridge_hash(source_dir)}"] ++
        for(
          wheel <- wheels,
          do:
            String.trim_trailing("# wheel: #{wheel.tag} #{wheel.sha256} #{wheel.library_sha256} #{wheel.worker_sha256}")
        ) ++
        ["pythonx-native==#{@version} \\"] ++ for(wheel <- wheels, do: "    --hash=sha256:#{wheel.sha256} \\")

    File.mkdir_p!(Path.dirname(path))
    File.write!(path, Enum.map_join(lines, &(&1 <> "\n")))
    path
  end

  @doc "Makes a wheel another by one byte, in its library."
  def damage!(wheel) do
    <<first::binary-size(120), byte, rest::binary>> = File.read!(wheel.file)
    File.write!(wheel.file, <<first::binary, Bitwise.bxor(byte, 1), rest::binary>>)
  end

  @doc "A folder that uv takes for an index, as a URL, with these wheels in it."
  def index!(folder, wheels) do
    package = Path.join(folder, "pythonx-native")
    File.mkdir_p!(package)
    for wheel <- wheels, do: File.cp!(wheel.file, Path.join(package, Path.basename(wheel.file)))
    names = for wheel <- wheels, do: Path.basename(wheel.file)
    File.write!(Path.join(package, "index.html"), Enum.map_join(names, &~s(<a href="#{&1}">#{&1}</a><br>\n)))
    "file://#{URI.encode(Path.expand(folder))}"
  end
end
