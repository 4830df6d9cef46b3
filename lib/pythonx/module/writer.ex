defmodule Pythonx.Module.Writer do
  @moduledoc false

  # A generated module, as code to be put in the place of a `use`, or as the text of a file.

  alias Pythonx.Module.Generator

  @doc "What `use Pythonx.Module` stands for: the modules of classes, then the functions."
  @spec quoted(Generator.t()) :: Macro.t()
  def quoted(generated) do
    classes = for class <- generated.classes, do: quoted_class(class)
    functions = for definition <- generated.functions, do: quoted_definition(definition)

    # The classes are named in the specs of the functions, and the other way round: modules within a module may do that.
    quote do
      unquote(generated.python)
      unquote_splicing(functions)
      unquote_splicing(classes)
    end
  end

  defp quoted_class(class) do
    quote do
      defmodule unquote(class.module) do
        @moduledoc unquote(class.doc)
        unquote_splicing(class.head)
        unquote_splicing(Enum.map(class.functions, &quoted_definition/1))
      end

      defimpl Pythonx.Encoder, for: unquote(class.module) do
        unquote(class.encoder)
      end
    end
  end

  defp quoted_definition(definition) do
    quote do
      @doc unquote(definition.doc)
      unquote_splicing(definition.specs)
      unquote(definition.code)
    end
  end

  @doc "The text of a file with the module, below the lines of `head`."
  @spec text(Generator.t(), module(), String.t()) :: String.t()
  def text(generated, module, head) do
    body = [
      "defmodule #{inspect(module)} do\n@moduledoc #{sigil(generated.doc)}\n\n",
      code(generated.python),
      "\n\n",
      Enum.map(generated.functions, &text_definition/1),
      "end\n\n",
      Enum.map(generated.classes, &text_class/1)
    ]

    formatted = body |> IO.iodata_to_binary() |> Code.format_string!(line_length: 120)
    IO.iodata_to_binary([head, formatted, "\n"])
  end

  defp text_class(class) do
    [
      "defmodule #{inspect(class.module)} do\n@moduledoc #{sigil(class.doc)}\n\n",
      Enum.map(class.head, &[code(&1), "\n"]),
      "\n",
      Enum.map(class.functions, &text_definition/1),
      "end\n\n",
      "defimpl Pythonx.Encoder, for: #{inspect(class.module)} do\n#{code(class.encoder)}\nend\n\n"
    ]
  end

  defp text_definition(definition) do
    ["@doc #{sigil(definition.doc)}\n", Enum.map(definition.specs, &[code(&1), "\n"]), code(definition.code), "\n\n"]
  end

  defp code({:__block__, _meta, parts}), do: Enum.map_join(parts, "\n", &code/1)
  defp code(quoted), do: Macro.to_string(quoted)

  # A heredoc that needs no escapes, where the text does not end it.
  defp sigil(false), do: "false"

  defp sigil(text) do
    cond do
      not String.contains?(text, ~s(""")) -> heredoc("~S", ~s("""), text)
      not String.contains?(text, "'''") -> heredoc("~S", "'''", text)
      true -> inspect(text, printable_limit: :infinity, limit: :infinity)
    end
  end

  # In a sigil of this kind, nothing is special but a backslash before the delimiter.
  defp heredoc(sigil, delimiter, text), do: "#{sigil}#{delimiter}\n#{text}\n#{delimiter}"
end
