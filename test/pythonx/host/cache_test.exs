defmodule Pythonx.Host.CacheTest do
  use Pythonx.UvCase, async: false

  alias Pythonx.Host.Cache

  test "the base folder is PYTHONX_CACHE_DIR made absolute, else the cache of the user" do
    System.put_env("PYTHONX_CACHE_DIR", "relative/../here")
    assert Cache.base_dir() == Path.expand("here")
    System.put_env("PYTHONX_CACHE_DIR", "")
    assert Cache.base_dir() == :filename.basedir(:user_cache, "pythonx") |> to_string()
  end

  test "writes atomically: with the mode, over a former file, without leftovers", %{tmp_dir: dir} do
    path = Path.join(dir, "file")
    Cache.write_atomically!(path, "first")
    Cache.write_atomically!(path, ["sec", "ond"], 0o755)
    assert File.read!(path) == "second"
    assert Bitwise.band(File.stat!(path).mode, 0o777) == 0o755
    assert File.ls!(dir) == ["file"]
  end

  test "renames a folder over a former one", %{tmp_dir: dir} do
    [from, to] = for name <- ["from", "to"], do: Path.join(dir, name)
    for {folder, file} <- [{from, "new"}, {to, "old"}], do: File.mkdir_p!(Path.join(folder, file))
    Cache.rename!(from, to)
    assert File.ls!(to) == ["new"]
    refute File.exists?(from)
  end

  test "temporary names are beside, different, and known again", %{tmp_dir: dir} do
    path = Path.join(dir, "abc")
    [one, two] = for _ <- 1..2, do: Cache.temporary_beside(path)
    assert one != two
    assert Path.dirname(one) == dir
    assert Cache.temporary?(Path.basename(one), path)
    refute Cache.temporary?(Path.basename(one), Path.join(dir, "ab"))
  end

  test "a full disk" do
    assert_raise RuntimeError,
                 "could not write /dev/full: no space left on device. " <>
                   "Free some space, or set PYTHONX_CACHE_DIR to a folder on another disk",
                 fn -> Cache.write!("/dev/full", "x") end
  end

  test "a folder that cannot be made", %{tmp_dir: dir} do
    file = Path.join(dir, "file")
    File.write!(file, "")

    assert_raise RuntimeError,
                 "could not create the folder #{file}/folder: not a directory. " <>
                   "Set PYTHONX_CACHE_DIR to a folder that can be written",
                 fn -> Cache.mkdir!(Path.join(file, "folder")) end
  end

  test "a folder in which we may not write", %{tmp_dir: dir} do
    own = File.stat!(dir).uid

    without_writing(dir, fn ->
      error = assert_raise RuntimeError, fn -> Cache.mkdir!(Path.join(dir, "a/b")) end

      # The reason is one word or the other, depending on why we may not.
      assert error.message =~
               ~r"""
               \Acould not create the folder \Q#{dir}\E/a/b: (permission denied|not owner)\. \
               \Q#{dir}\E belongs to the user with the id #{own}\. \
               Set PYTHONX_CACHE_DIR to a folder of your own, or have this one made writable for you\z\
               """
    end)
  end

  test "a cache that belongs to another user is not trusted", %{tmp_dir: dir} do
    folder = Path.join(dir, "of another")
    File.mkdir!(folder)
    assert Cache.check_owner!(dir, folder) == :ok
    assert Cache.check_owner!(dir, Path.join(folder, "not there")) == :ok
    own = File.stat!(dir).uid

    # Only root can give a folder away.
    if own == 0 do
      File.chown!(folder, 12_345)

      assert_raise RuntimeError,
                   "the cache cannot be trusted: #{folder} belongs to the user with the id 12345, this is 0. " <>
                     "Set PYTHONX_CACHE_DIR to a folder of your own",
                   fn -> Cache.check_owner!(dir, Path.join(folder, "below")) end
    end
  end
end
