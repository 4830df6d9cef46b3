defmodule Pythonx.KinoPythonxDouble do
  @moduledoc false
  # Does what the package kino_pythonx does with objects, in its ways of calling Pythonx: rendering by the class of a value,
  # images, tables of which columns stay in Python and are read slice by slice. Its functions are called in a VM that has
  # the packages, and return terms, because objects are of no use in the VM of the test.

  @doc "Evaluates code and keeps the result under a name."
  def keep(name, code) do
    {%Pythonx.Object{} = object, _globals} = Pythonx.eval(code, %{})
    :persistent_term.put({__MODULE__, name}, object)
  end

  @doc "The number of the first class that the value is an instance of; classes whose module is not imported do not count."
  def renderer(name, classes) do
    call(
      """
      import sys

      def find():
          for number, (module, cls) in enumerate(classes):
              module = sys.modules.get(module.decode("utf-8"))
              if module is not None and isinstance(value, getattr(module, cls.decode("utf-8"))):
                  return ("renderer", number)
          return None

      find()
      """,
      %{"value" => kept(name), "classes" => classes}
    )
  end

  @doc "A figure as an image."
  def image(name) do
    call(
      """
      import io

      def image():
          with io.BytesIO() as buffer:
              value.savefig(buffer, format="png")
              return ("image", "png", buffer.getvalue())

      image()
      """,
      %{"value" => kept(name)}
    )
  end

  @doc "The columns and rows of a table, with `size` values of each column from `start` on."
  def table(name, start, size) do
    code = """
    columns = list(value.columns)
    ("table", [str(name) for name in columns], [(value[name], index) for index, name in enumerate(columns)], len(value))
    """

    {"table", names, columns, count} = call(code, %{"value" => kept(name)})
    true = Enum.all?(columns, fn {column, _index} -> is_struct(column, Pythonx.Object) end)
    {names, Enum.map(columns, &elem(&1, 1)), count, for({column, _index} <- columns, do: slice(column, start, size))}
  end

  defp slice(series, start, size) do
    globals = %{"series" => series, "start" => start, "size" => size}
    "series[start:(start + size)].to_list()" |> call(globals) |> Enum.map(&cell/1)
  end

  # What is no term is shown by its str.
  defp cell(%Pythonx.Object{} = value), do: {:str, call("str(value)", %{"value" => value})}
  defp cell(value), do: value

  @doc "The decoded result of an evaluation."
  def call(code, globals) do
    {result, _globals} = Pythonx.eval(code, globals)
    Pythonx.decode(result)
  end

  defp kept(name), do: :persistent_term.get({__MODULE__, name})
end
