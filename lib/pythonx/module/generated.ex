defmodule Pythonx.Module.Generated do
  @moduledoc false

  # A file that `mix pythonx.gen` writes, with what it has to know about itself in its head.

  alias Pythonx.Module.{Generator, Writer}

  @title "# Written by mix pythonx.gen, which writes it again: change nothing here."

  @typedoc "What was asked for: the head of a file has it, so that it can be checked."
  @type settings :: %{
          python: String.t(),
          as: String.t(),
          only: [String.t()] | nil,
          except: [String.t()],
          classes: boolean(),
          target: String.t() | nil,
          isolated: boolean(),
          rich: boolean()
        }

  @type t :: %{
          text: String.t(),
          version: String.t(),
          hash: String.t(),
          summary: String.t(),
          skipped: [[String.t()]]
        }

  @doc "The settings that the options of the task say."
  @spec settings(String.t(), keyword(), String.t()) :: settings()
  def settings(python, opts, as) do
    %{
      python: python,
      as: as,
      only: opts[:only] && split(opts[:only]),
      except: split(opts[:except] || ""),
      classes: Keyword.get(opts, :classes, true),
      target: opts[:target],
      isolated: opts[:isolated] || false,
      rich: opts[:rich] || false
    }
  end

  defp split(names), do: String.split(names, [",", " "], trim: true)

  @doc "The file for a description."
  @spec build(map(), settings()) :: t()
  def build(description, settings) do
    module = Module.concat([settings.as])
    chosen = choose(description, settings)

    python =
      Pythonx.Module.python(
        options(settings),
        %{module: module, file: "", line: 0},
        0,
        :installed,
        settings.python
      )

    generated = Generator.generate(chosen, module, python)
    hash = hash(chosen)

    %{
      text: Writer.text(generated, module, head(settings, description["version"], hash)),
      version: description["version"],
      hash: hash,
      summary: summary(chosen),
      skipped: chosen["skipped"]
    }
  end

  defp choose(description, settings) do
    keep? = fn item ->
      (settings.only == nil or item["name"] in settings.only) and item["name"] not in settings.except
    end

    classes = if settings.classes, do: Enum.filter(description["classes"], keep?), else: []
    %{description | "functions" => Enum.filter(description["functions"], keep?), "classes" => classes}
  end

  defp options(settings) do
    target = settings.target && Module.concat([settings.target])
    [target: target, isolated: settings.isolated, types: if(settings.rich, do: :rich, else: :basic)]
  end

  # The version stands beside it, and where the module lies says nothing.
  defp hash(description) do
    data = description |> Map.drop(["version", "file"]) |> :erlang.term_to_binary([:deterministic])
    :sha256 |> :crypto.hash(data) |> Base.encode16(case: :lower) |> binary_part(0, 32)
  end

  defp summary(description) do
    "#{count(description["functions"], "function", "functions")}, #{count(description["classes"], "class", "classes")}"
  end

  defp count([_one], singular, _plural), do: "1 #{singular}"
  defp count(items, _singular, plural), do: "#{length(items)} #{plural}"

  defp head(settings, version, hash) do
    """
    #{@title}
    # command: #{command(settings)}
    # version: #{version}
    # hash: #{hash}
    """
  end

  @doc "What writes the file."
  @spec command(settings()) :: String.t()
  def command(settings) do
    switches = [
      settings.only && "--only " <> Enum.join(settings.only, ","),
      settings.except != [] && "--except " <> Enum.join(settings.except, ","),
      not settings.classes && "--no-classes",
      settings.target && "--target #{settings.target}",
      settings.isolated && "--isolated",
      settings.rich && "--rich"
    ]

    Enum.join(["mix pythonx.gen #{settings.python} --as #{settings.as}" | Enum.filter(switches, & &1)], " ")
  end

  @doc "The settings, the version and the hash in the head of a file; `nil` for a file that was not written so."
  @spec read_head(String.t()) :: %{settings: settings(), version: String.t(), hash: String.t()} | nil
  def read_head(text) do
    with [@title, "# command: mix pythonx.gen " <> command, "# version: " <> version, "# hash: " <> hash | _rest] <-
           String.split(text, "\n", parts: 5) do
      switches = [
        as: :string,
        only: :string,
        except: :string,
        classes: :boolean,
        target: :string,
        isolated: :boolean,
        rich: :boolean
      ]

      {opts, [python], []} = command |> String.split(" ", trim: true) |> OptionParser.parse(strict: switches)
      %{settings: settings(python, opts, opts[:as]), version: version, hash: hash}
    else
      _other -> nil
    end
  end
end
