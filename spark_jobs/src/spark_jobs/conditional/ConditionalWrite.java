package crm.lake;

import java.io.IOException;
import java.util.Arrays;
import org.apache.hadoop.fs.FSDataInputStream;
import org.apache.hadoop.fs.FSDataOutputStream;
import org.apache.hadoop.fs.FSDataOutputStreamBuilder;
import org.apache.hadoop.fs.FileAlreadyExistsException;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.s3a.RemoteFileChangedException;

/** A file that is written whole, by one request, and only where there is none: the store itself decides. */
class ConditionalWrite {
  static void create(FileSystem store, Path path, byte[] content) throws IOException {
    try {
      FSDataOutputStreamBuilder builder = store.createFile(path);
      builder.overwrite(false);
      builder.opt("fs.option.create.conditional.overwrite", true);
      FSDataOutputStream file = (FSDataOutputStream) builder.build();
      file.write(content);
      file.close();
    } catch (RemoteFileChangedException refused) {
      refuseUnlessOurs(store, path, content);
    } catch (FileAlreadyExistsException there) {
      refuseUnlessOurs(store, path, content);
    }
  }

  /** A request whose answer was lost is sent again, and meets itself. */
  private static void refuseUnlessOurs(FileSystem store, Path path, byte[] content) throws IOException {
    FSDataInputStream file = store.open(path);
    try {
      if (!Arrays.equals(file.readAllBytes(), content)) {
        throw new FileAlreadyExistsException(path.toString());
      }
    } finally {
      file.close();
    }
  }
}
